"""Writes the table of docs/trust.md from the campaigns."""

from typing import Any

from trust import results, suites

PAGE = results.ROOT / "docs" / "trust.md"
BEGIN = "<!-- results: written by `python -m trust report` -->"
END = "<!-- end of results -->"
# Suites whose runs are written by a Rust program: id and title.
RUST_SUITES = {
    "sim": ("R1", "simulator: seeds"),
    "mutants": ("R2", "mutants: each killed"),
}


def _title(name: str) -> tuple[str, str]:
    if name in RUST_SUITES:
        return RUST_SUITES[name]
    suite = suites.load(name)
    return suite.id, suite.title


def _counts(campaigns: list[dict[str, Any]]) -> str:
    total: dict[str, Any] = {}
    for campaign in campaigns:
        results.add_counts(total, campaign["counts"])
    return ", ".join(
        f"{value:g} {key.removesuffix('_max')}{' at most' if key.endswith('_max') else ''}".replace("_", " ")
        for key, value in total.items()
    )


def table(campaigns: list[dict[str, Any]]) -> str:
    """One row a suite and shape: runs, violations, what was counted, seeds, commits, dates."""
    rows = ["| id | suite | runs | violations | counted | seeds | commits | dates |", "|---|---|---|---|---|---|---|---|"]
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for campaign in campaigns:
        groups.setdefault((campaign["suite"], campaign["shape"]), []).append(campaign)
    described = {name: _title(name) for name, _ in groups}
    for name, shape in sorted(groups, key=lambda group: (described[group[0]][0], group)):
        members = groups[name, shape]
        seeds = results.ranges(s for c in members for first, last in c["ranges"] for s in range(first, last + 1))
        spans = ", ".join(f"{first}–{last}" if last > first else str(first) for first, last in seeds[:3])
        spans += f" and {len(seeds) - 3} more spans" if len(seeds) > 3 else ""
        commits = list(dict.fromkeys(c["commit"] for c in members))
        named = ", ".join(f"`{commit}`" for commit in commits[-2:]) + (
            f" and {len(commits) - 2} before" if len(commits) > 2 else ""
        )
        dates = sorted({c["from"][:10] for c in members} | {c["to"][:10] for c in members})
        when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
        title = described[name][1] + (f" · {shape}" if shape else "")
        runs, violations = sum(c["runs"] for c in members), sum(c["violations"] for c in members)
        rows.append(
            f"| {described[name][0]} | {title} | {runs} | {violations} | {_counts(members)} | {spans} | {named} | {when} |"
        )
    machines = list(dict.fromkeys(c["machine"] for c in campaigns))
    return "\n".join(rows) + "\n\nMachines: " + "; ".join(machines) + ".\n"


def write() -> int:
    """Merges all raw lines and renews the table; the rest of the page stays as it is."""
    names = {path.stem for path in results.OUT.glob("*.jsonl")} if results.OUT.exists() else set()
    for name in sorted(names):
        results.merge(results.OUT, name)
    page = PAGE.read_text()
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    PAGE.write_text(f"{before}{BEGIN}\n{table(results.campaigns())}{END}{after}")
    print(f"{PAGE.relative_to(results.ROOT)} is renewed")
    return 0
