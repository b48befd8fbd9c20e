//! The replicated state.
#[derive(Debug)]
pub enum Signal {}
