//! Bugs planted on purpose: what the simulator must be able to notice (TRUST §2).
//!
//! A hook in a product crate is one readable condition, `if mutant::active("name") { … }`. Without
//! the cargo feature `mutants` [`active`] is the constant `false`, so that neither the branch nor
//! the name is left in a build; with it, one mutant of [`ALL`] is chosen by name at run time for
//! the whole process. Only the workspace in `mutants/` turns the feature on.

#[cfg(feature = "mutants")]
mod list;
#[cfg(feature = "mutants")]
mod selected;

#[cfg(feature = "mutants")]
pub use list::{ALL, Mutant};
#[cfg(feature = "mutants")]
pub use selected::{UnknownMutant, active, select};

/// Whether this build can misbehave.
pub const ENABLED: bool = cfg!(feature = "mutants");

/// Whether the mutant of this name was chosen: never in a build without the feature.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub const fn active(_name: &'static str) -> bool {
    false
}

#[cfg(all(test, not(feature = "mutants")))]
mod tests {
    #[test]
    fn the_product_is_built_without_mutants() {
        const { assert!(!super::ENABLED) };
        assert!(!super::active("ack-before-fsync"));
    }
}
