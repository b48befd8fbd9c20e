//! `taskquorum._native`: the node for Python. It converts and forwards; decisions are made below.
//!
//! What always holds:
//! * the GIL is released around everything that can wait or takes more than a conversion, in one
//!   place ([`convert::released`]);
//! * no Raft thread ever touches Python: completions wait in the ring until Python drains them;
//! * a user's JSON crosses as bytes.

mod backup;
mod convert;
mod node;
mod policy;
mod wire;

use pyo3::prelude::*;

/// The Rust half of taskquorum.
#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("NativeError", module.py().get_type::<convert::NativeError>())?;
    module.add("Busy", module.py().get_type::<convert::Busy>())?;
    module.add_class::<backup::Backup>()?;
    module.add_function(wrap_pyfunction!(backup::verify_backup, module)?)?;
    module.add_function(wrap_pyfunction!(backup::restore_backup, module)?)?;
    module.add_class::<node::Node>()?;
    module.add_class::<policy::PolicyBatch>()
}
