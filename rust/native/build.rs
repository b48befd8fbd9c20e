//! Compiles `cython_ext/_http.pyx` into OUT_DIR, where maturin finds it (`include` in pyproject.toml).
//!
//! Only under maturin (feature `extension-module`): a test or a check of the workspace needs neither
//! Cython nor Python's headers. Cython is taken from the build environment's PATH; the compiler and
//! its flags are those of the interpreter the wheel is for (PYO3_PYTHON, set by maturin).

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Prints what a C compiler needs to know, one item a line.
const PYTHON_FACTS: &str = "import sysconfig as s; print(s.get_config_var('CC') or 'cc'); print(s.get_paths()['include']); \
    print(s.get_paths()['platinclude']); print(s.get_config_var('EXT_SUFFIX'))";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_EXTENSION_MODULE").is_some()
        && let Err(reason) = compile_http()
    {
        println!("cargo:warning={reason}");
        std::process::exit(1);
    }
}

fn compile_http() -> Result<(), String> {
    let sources = variable("CARGO_MANIFEST_DIR")?.join("../../cython_ext");
    let out = variable("OUT_DIR")?;
    println!("cargo:rerun-if-changed={}", sources.display());
    println!("cargo:rerun-if-env-changed=PYO3_PYTHON");
    let python = env::var("PYO3_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let facts = run(Command::new(&python).args(["-c", PYTHON_FACTS]))?;
    let [compiler, include, platform_include, suffix] = facts.lines().collect::<Vec<_>>()[..] else {
        return Err(format!("{python} does not say how it was compiled: {facts}"));
    };
    let c_file = out.join("_http.c");
    cython(&python, &sources.join("_http.pyx"), &c_file)?;
    let mut words = compiler.split_whitespace();
    let mut cc = Command::new(words.next().unwrap_or("cc"));
    cc.args(words).args(["-O2", "-fPIC", "-fno-strict-aliasing", "-fwrapv"]);
    match env::var("CARGO_CFG_TARGET_OS").as_deref() {
        Ok("macos") => cc.args(["-bundle", "-undefined", "dynamic_lookup"]),
        _ => cc.args(["-shared", "-s"]),
    };
    cc.arg(format!("-I{include}")).arg(format!("-I{platform_include}"));
    run(cc.arg(&c_file).arg("-o").arg(out.join(format!("_http{suffix}")))).map(drop)
}

/// Runs the `cython` of the build environment, else the target interpreter's own.
fn cython(python: &str, source: &Path, c_file: &Path) -> Result<(), String> {
    let arguments = ["-3".as_ref(), source.as_os_str(), "-o".as_ref(), c_file.as_os_str()];
    let on_path = run(Command::new("cython").args(arguments));
    let by_module = || run(Command::new(python).args(["-m", "cython"]).args(arguments));
    let hint = |error| format!("{error} -- Cython 3.3 is needed to build the wheel: pip install cython");
    on_path.or_else(|first| by_module().map_err(|second| hint(format!("{first}; {second}")))).map(drop)
}

fn variable(name: &str) -> Result<PathBuf, String> {
    env::var_os(name).map(PathBuf::from).ok_or_else(|| format!("{name} is not set"))
}

/// What the command printed; its errors on one line, as cargo shows only lines.
fn run(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("cannot run {name}: {error}"))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr).replace('\n', " | ");
        return Err(format!("{name} failed ({}): {errors}", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
