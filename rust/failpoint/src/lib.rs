//! Places where a node can be made to crash, to panic, to wait, or to fail: TRUST §4 R6.
//!
//! A place is one line, `failpoint::point!("crate::file::place")`. Without the cargo feature `failpoints` it expands to
//! nothing, so that neither branch nor name is left in a build. With it, the crate `fail` decides at run time, told by the
//! environment variable `FAILPOINTS` at the start (`name=action;…`) and by lines on the Unix socket that
//! `TASKQUORUM_FAILPOINTS` names (see [`control`]). Actions are those of `fail`:
//!
//! * `return(crash)` ends the process on the spot, with [`CRASH_CODE`], as a power switch would;
//! * `panic` panics on that thread, which must abort the process;
//! * `sleep(ms)` waits;
//! * `return(text)` makes the step fail with that text, where the place says that it can.
//!
//! They combine as usual: `3*off->1*return(crash)` crashes the fourth time.
//!
//! [`ALL`] names every place; a test compares it with the sources.

#[cfg(feature = "failpoints")]
pub mod control;
#[cfg(any(test, feature = "failpoints"))]
mod names;
#[cfg(feature = "failpoints")]
mod reached;

#[cfg(feature = "failpoints")]
pub use reached::{configure, hits, reach, setup};

/// Whether this build has failpoints.
pub const ENABLED: bool = cfg!(feature = "failpoints");
/// Exit code of a process that crashed at a failpoint.
pub const CRASH_CODE: i32 = 86;

#[cfg(feature = "failpoints")]
pub use names::ALL;

/// Reads the environment and listens, in a build with failpoints.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub const fn setup() {}

/// A place to crash, panic or wait; with a second argument, `|reason: String| value`, the function can return that value.
#[cfg(feature = "failpoints")]
#[macro_export]
macro_rules! point {
    ($name:literal) => {
        if let Some(reason) = $crate::reach($name) {
            panic!("failpoint {}: nothing can be returned here ({reason})", $name);
        }
    };
    ($name:literal, $failure:expr) => {
        if let Some(reason) = $crate::reach($name) {
            return ($failure)(reason);
        }
    };
}

/// Nothing, in this build.
#[cfg(not(feature = "failpoints"))]
#[macro_export]
macro_rules! point {
    ($($arguments:tt)*) => {};
}

/// Whether a step is to be left out: `return(any)` at its place says so. False in a build without failpoints.
#[cfg(feature = "failpoints")]
#[macro_export]
macro_rules! skip {
    ($name:literal) => {
        $crate::reach($name).is_some()
    };
}

/// False, in this build.
#[cfg(not(feature = "failpoints"))]
#[macro_export]
macro_rules! skip {
    ($name:literal) => {
        false
    };
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::names;

    /// Names in `failpoint::point!("…")` and `failpoint::skip!("…")` below a directory.
    fn placed(directory: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(directory).expect("the sources are readable") {
            let path = entry.expect("the sources are readable").path();
            if path.is_dir() && !path.ends_with("failpoint") && !path.ends_with("target") {
                placed(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).expect("a source is text");
                for form in ["failpoint::point!(", "failpoint::skip!("] {
                    let names = text.split(form).skip(1).filter_map(|rest| rest.trim_start().strip_prefix('"'));
                    found.extend(names.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
                }
            }
        }
    }

    #[test]
    fn the_list_the_sources_and_the_page_name_the_same_places() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut found = Vec::new();
        placed(&root.join("rust"), &mut found);
        let known: BTreeSet<String> = names::ALL.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(found.iter().cloned().collect::<BTreeSet<_>>(), known);
        assert_eq!((found.len(), names::ALL.len()), (known.len(), known.len()), "each place has a name of its own");
        assert!(known.len() >= 40, "TRUST asks for 40 places or more: {}", known.len());
        let page = fs::read_to_string(root.join("docs/failpoints.md")).expect("docs/failpoints.md");
        for (name, what) in names::ALL {
            assert!(page.contains(&format!("| `{name}` | {what} |")), "docs/failpoints.md lacks the row of {name}");
        }
    }
}
