"""The product has no failpoints: their names are in no file of the installed package, and in the other build they are."""

import re
from pathlib import Path

import taskquorum

ROOT = Path(__file__).resolve().parents[2]
NAMES = re.findall(r"^\| `([a-z_:]+)` \|", (ROOT / "docs" / "failpoints.md").read_text(), re.MULTILINE)


def named_in(package: Path) -> set[str]:
    """Places whose name stands in a native module of a package."""
    modules = list(package.glob("_native*.so"))
    assert modules, f"{package} has no native module"
    raw = b"".join(module.read_bytes() for module in modules)
    return {name for name in [*NAMES, "FAILPOINTS"] if name.encode() in raw}


def test_the_installed_package_has_none() -> None:
    assert len(NAMES) >= 40
    assert named_in(Path(taskquorum.__file__).parent) == set()


def test_the_build_with_failpoints_has_all(failpoint_build: Path) -> None:
    assert named_in(failpoint_build / "taskquorum") == {*NAMES, "FAILPOINTS"}
