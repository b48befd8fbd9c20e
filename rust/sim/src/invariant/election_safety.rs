//! Election safety: at most one leader in a term (Raft, figure 3).

use std::collections::BTreeMap;

use super::{Broken, broken};

#[derive(Default)]
pub struct ElectionSafety {
    leaders: BTreeMap<u64, usize>,
}

impl ElectionSafety {
    /// Node `at` leads `term`; true the first time.
    pub fn leads(&mut self, at: usize, term: u64) -> Result<bool, Broken> {
        match self.leaders.insert(term, at) {
            None => Ok(true),
            Some(other) if other == at => Ok(false),
            Some(other) => broken("election safety", format!("n{} and n{} lead term {term}", other + 1, at + 1)).map(|()| false),
        }
    }

    pub fn elections(&self) -> u64 {
        self.leaders.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_leaders_of_one_term_are_seen() {
        let mut safety = ElectionSafety::default();
        assert!(safety.leads(0, 3).is_ok_and(|first| first));
        assert!(safety.leads(0, 3).is_ok_and(|first| !first));
        assert!(safety.leads(1, 4).is_ok());
        assert!(safety.leads(1, 3).is_err());
    }
}
