"""Makes `mutants/.raft`: the `raft` crate of the lock file with the planted bugs of `patches/` in it.

What always holds: the copy comes from the very archive whose checksum the lock file names, every patch fits without
fuzz or not at all, and the copy is made anew only when the archive or a patch has changed, so that cargo rebuilds
nothing else. The lock file of the workspace is made from the product's, so that both have the same versions. Nothing
outside `mutants/` depends on any of it: the product is built with the crate as it is published.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
COPY = HERE / ".raft"


def locked() -> tuple[str, str]:
    """Version and checksum of `raft` in the lock file of the product."""
    packages = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    found = [p for p in packages if p["name"] == "raft"]
    if len(found) != 1:
        raise SystemExit(f"mutants: the lock file names {len(found)} crates `raft`, expected one")
    return found[0]["version"], found[0]["checksum"]


def archive(version: str) -> Path:
    """The archive in cargo's cache, fetched by cargo if it is not there yet."""
    command = ["cargo", "metadata", "--locked", "--format-version", "1"]
    metadata = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    packages = json.loads(metadata.stdout)["packages"]
    manifest = next(Path(p["manifest_path"]) for p in packages if p["name"] == "raft" and p["version"] == version)
    # …/registry/src/<index>/raft-x.y.z/Cargo.toml beside …/registry/cache/<index>/raft-x.y.z.crate
    source = manifest.parent
    return source.parents[2] / "cache" / source.parent.name / f"{source.name}.crate"


def prepare() -> Path:
    version, checksum = locked()
    crate = archive(version)
    found = hashlib.sha256(crate.read_bytes()).hexdigest()
    if found != checksum:
        raise SystemExit(f"mutants: {crate} has the checksum {found}, the lock file says {checksum}")
    patches = sorted((HERE / "patches").glob("*.patch"))
    stamp = hashlib.sha256((ROOT / "Cargo.lock").read_bytes())
    for patch in patches:
        stamp.update(patch.read_bytes())
    stamp_file = COPY / ".stamp"
    if stamp_file.exists() and stamp_file.read_text() == stamp.hexdigest():
        return COPY
    shutil.rmtree(COPY, ignore_errors=True)
    with tarfile.open(crate) as archived:
        archived.extractall(HERE, filter="data")
    (HERE / f"raft-{version}").rename(COPY)
    # A lock file, benches and examples of their own would only be in the way.
    for unused in ("Cargo.lock", "Cargo.toml.orig"):
        (COPY / unused).unlink(missing_ok=True)
    for patch in patches:
        apply = ["patch", "--strip=1", "--fuzz=0", "--no-backup-if-mismatch", "--silent", "--input", str(patch)]
        if subprocess.run(apply, cwd=COPY, check=False).returncode != 0:
            raise SystemExit(f"mutants: {patch.name} does not fit raft {version}")
    # Cargo strikes out what this workspace does not need.
    shutil.copyfile(ROOT / "Cargo.lock", HERE / "Cargo.lock")
    stamp_file.write_text(stamp.hexdigest())
    return COPY


if __name__ == "__main__":
    print(f"mutants: {prepare().relative_to(ROOT)} is ready", file=sys.stderr)
