//! What happens at a place: counted, then decided by the crate `fail`.

use std::collections::BTreeMap;
use std::sync::{Mutex, Once, PoisonError};

use crate::{CRASH_CODE, control, names};

const CRASH: &str = "crash";

static HITS: Mutex<BTreeMap<&'static str, u64>> = Mutex::new(BTreeMap::new());
static SETUP: Once = Once::new();

/// Reads `FAILPOINTS`, and listens where `TASKQUORUM_FAILPOINTS` says; once.
///
/// # Panics
/// If either cannot be used: a test that believes in failpoints must not run without.
pub fn setup() {
    SETUP.call_once(|| {
        for setting in std::env::var("FAILPOINTS").unwrap_or_default().split(';').filter(|s| !s.trim().is_empty()) {
            let (name, actions) = setting.split_once('=').unwrap_or((setting, ""));
            if let Err(error) = configure(name.trim(), actions) {
                panic!("FAILPOINTS: {error}");
            }
        }
        if let Some(path) = std::env::var_os("TASKQUORUM_FAILPOINTS") {
            control::listen(path.as_ref()).unwrap_or_else(|e| panic!("TASKQUORUM_FAILPOINTS: {}: {e}", path.display()));
        }
    });
}

/// Sets the actions of a place.
///
/// # Errors
/// There is no such place, or `fail` does not understand the actions.
pub fn configure(name: &str, actions: &str) -> Result<(), String> {
    if !names::ALL.iter().any(|(known, _)| *known == name) {
        return Err(format!("there is no failpoint {name:?}"));
    }
    fail::cfg(name, actions)
}

/// How often each place was reached.
pub fn hits() -> BTreeMap<&'static str, u64> {
    HITS.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Does what is set for a place; the reason if its step is to fail or to be left out.
pub fn reach(name: &'static str) -> Option<String> {
    *HITS.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default() += 1;
    let returned = fail::eval(name, |argument| argument.unwrap_or_default())?;
    if returned == CRASH {
        // Raw and at once: no destructor, no buffer, no other thread does anything more.
        eprintln!("taskquorum: crashed at the failpoint {name}");
        // SAFETY: ends the process and touches nothing.
        unsafe { libc::_exit(CRASH_CODE) }
    }
    Some(format!("failpoint {name}: {returned}"))
}
