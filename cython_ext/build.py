"""Builds `_http` beside the Python sources (or into a given directory), for development and tests.

The wheel's build does the same from `rust/native/build.rs`. Usage: `python cython_ext/build.py [DIR]`.
"""

import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

HERE = Path(__file__).resolve().parent


def build(target: Path, work: Path) -> Path:
    """Compiles `_http.pyx` with `work` for what lies between, and returns the library's path."""
    target.mkdir(parents=True, exist_ok=True)
    work.mkdir(parents=True, exist_ok=True)
    c_file = work / "_http.c"
    subprocess.run([sys.executable, "-m", "cython", "-3", str(HERE / "_http.pyx"), "-o", str(c_file)], check=True)
    library = target / f"_http{sysconfig.get_config_var('EXT_SUFFIX')}"
    compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")
    include = sysconfig.get_paths()["include"]
    flags = ["-O2", "-fPIC", "-shared", "-fno-strict-aliasing", "-fwrapv"]
    subprocess.run([*compiler, *flags, f"-I{include}", str(c_file), "-o", str(library)], check=True)
    return library


def main(arguments: list[str]) -> int:
    target = Path(arguments[0]) if arguments else HERE.parent / "pysrc" / "taskquorum"
    print(build(target, HERE.parent / "build" / "cython"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
