"""Writes runtime.txt and dev.txt from what .venv holds: the closure of each .in file, pinned.

Run by `make lock` after `.venv/bin/pip install --upgrade` of what should move; markers that do not hold here
(another platform, another Python) are left out, which is right for the one Python version the wheel is built for.
"""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HERE = Path(__file__).resolve().parent


def wanted(file: Path) -> list[Requirement]:
    lines = (line.split("#")[0].strip() for line in file.read_text().splitlines())
    return [Requirement(line) for line in lines if line]


def closure(roots: list[Requirement]) -> dict[str, str]:
    """Name → version of everything `roots` pull in on this interpreter."""
    found: dict[str, str] = {}
    todo = list(roots)
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        try:
            package = distribution(name)
        except PackageNotFoundError as error:
            raise SystemExit(f"{name} is not installed in this environment: install it, then lock again") from error
        seen = name in found
        found[name] = package.version
        for text in package.requires or []:
            child = Requirement(text)
            holds = child.marker is None or any(child.marker.evaluate({"extra": extra}) for extra in requirement.extras or {""})
            if holds and not (seen and canonicalize_name(child.name) in found):
                todo.append(child)
    return found


def main() -> None:
    runtime = closure(wanted(HERE / "runtime.in"))
    dev = closure(wanted(HERE / "dev.in"))
    for name, pins in (("runtime", runtime), ("dev", {k: v for k, v in dev.items() if k not in runtime})):
        head = f"# Written by `make lock` from {name}.in; do not edit.\n" + ("-r runtime.txt\n" if name == "dev" else "")
        body = "".join(f"{package}=={version}\n" for package, version in sorted(pins.items()))
        (HERE / f"{name}.txt").write_text(head + body)
        print(f"requirements/{name}.txt: {len(pins)} packages")


if __name__ == "__main__":
    main()
