"""Puts the golden files of `codec` into each target's corpus, in the form that the target reads."""

import shutil
from pathlib import Path

HERE = Path(__file__).resolve().parent
GOLDEN = HERE.parent / "rust" / "codec" / "testdata"
HEADER_BYTES = 12


def varint(number: int) -> bytes:
    """Protobuf's encoding of a length."""
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def main() -> None:
    corpora = {name: HERE / "corpus" / name for name in ("frames", "stream", "log_record", "commands", "snapshot_rows")}
    for directory in corpora.values():
        directory.mkdir(parents=True, exist_ok=True)
    entries = b""
    for golden in sorted(GOLDEN.glob("*.bin")):
        shutil.copy(golden, corpora["frames"] / golden.name)
        payload = golden.read_bytes()[HEADER_BYTES:]
        if golden.name.startswith("peer_"):
            (corpora["stream"] / golden.name).write_bytes(payload)
        if golden.name.startswith("log_record"):
            (corpora["log_record"] / golden.name).write_bytes(payload)
        if golden.name.startswith("command_"):
            entry = varint(len(payload)) + payload
            (corpora["commands"] / golden.name).write_bytes(entry)
            entries += entry
    (corpora["commands"] / "all").write_bytes(entries)


if __name__ == "__main__":
    main()
