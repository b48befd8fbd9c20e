//! The one mutant of this process.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::ALL;

/// Position in [`ALL`] plus one; 0 for none.
static SELECTED: AtomicUsize = AtomicUsize::new(0);

/// No mutant has this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownMutant(pub String);

impl std::fmt::Display for UnknownMutant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no mutant is called {:?}", self.0)
    }
}

impl std::error::Error for UnknownMutant {}

/// Chooses the process's mutant, or none. Before a run, not during one.
///
/// # Errors
/// If the name is not in [`ALL`]; nothing changes then.
pub fn select(name: Option<&str>) -> Result<(), UnknownMutant> {
    let at = match name {
        None => 0,
        Some(name) => 1 + ALL.iter().position(|m| m.name == name).ok_or_else(|| UnknownMutant(name.to_owned()))?,
    };
    SELECTED.store(at, Ordering::SeqCst);
    Ok(())
}

/// Whether this mutant was chosen.
///
/// # Panics
/// In tests of hooks: a name that is not in [`ALL`] is a misspelt hook.
pub fn active(name: &'static str) -> bool {
    debug_assert!(ALL.iter().any(|m| m.name == name), "no mutant is called {name:?}");
    let at = SELECTED.load(Ordering::Relaxed);
    at != 0 && ALL[at - 1].name == name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_active_once_it_was_chosen() {
        assert!(ALL.iter().all(|m| !active(m.name)), "none to begin with");
        select(Some(ALL[3].name)).unwrap();
        let on: Vec<_> = ALL.iter().filter(|m| active(m.name)).map(|m| m.name).collect();
        assert_eq!(on, [ALL[3].name]);
        assert_eq!(select(Some("no-such")), Err(UnknownMutant("no-such".to_owned())));
        assert!(active(ALL[3].name), "a wrong name changes nothing");
        select(None).unwrap();
        assert!(ALL.iter().all(|m| !active(m.name)));
    }
}
