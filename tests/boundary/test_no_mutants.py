"""The wheel holds none of the planted bugs of `rust/mutant`: neither their names nor the feature that turns them on."""

import re
import tomllib
from pathlib import Path

import taskquorum._native as native

ROOT = Path(__file__).resolve().parents[2]
NAMES = re.findall(r'^    mutant\("([a-z-]+)"', (ROOT / "rust/mutant/src/list.rs").read_text(), re.MULTILINE)


def test_no_name_is_in_the_extension() -> None:
    assert len(NAMES) >= 22, "the list was not read"
    library = Path(native.__file__).read_bytes()
    assert b"atomic_flush" in library or b"rocksdb" in library, "these are the bytes of the extension"
    assert [name for name in NAMES if name.encode() in library] == []


def test_only_the_mutants_workspace_turns_the_feature_on() -> None:
    manifests = [ROOT / "Cargo.toml", *(ROOT / "rust").glob("*/Cargo.toml")]
    for manifest in manifests:
        table = tomllib.loads(manifest.read_text())
        kinds = (table, table.get("workspace", {}))
        tables = [kind.get(key, {}) for kind in kinds for key in ("dependencies", "dev-dependencies", "build-dependencies")]
        named = [t["mutant"] for t in tables if "mutant" in t]
        assert not [d for d in named if d.get("features")], f"{manifest} turns mutants on"
        assert manifest.parent.name == "mutant" or "mutants" not in table.get("features", {}), manifest
