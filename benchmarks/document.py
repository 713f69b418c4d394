"""docs/benchmarks.md, made of what benchmarks last wrote to results/: every number as it was measured, aim or no aim.

`python -m benchmarks` writes it after each run, `python -m benchmarks.document` without measuring; a test fails when
it is not current.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
HEAD = """# Benchmarks

What `make bench` last measured, or `make bench NAME=...` one of them; `python -m benchmarks` writes this page, and a
test fails when it is not current. A ratio is measured side by side, in turns, and compares medians. The machine and its
load while it measured are beside each number: where the load exceeds the cores, other work was running, and seconds and
rates are worse than on an idle machine, while ratios hold as long as both sides met the same. Details are in
`benchmarks/results/`. SAEDashboard is measured where `make interop` has installed it.
"""
_OF_CPU = "exponent_of_cpu_seconds"
_VERDICT = {True: "holds", False: "**missed**", None: "–"}


def page() -> str:
    """Return the whole page."""
    parts = [HEAD]
    for path in sorted(RESULTS.glob("*.json")):
        results = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        parts.append(f"\n## `{path.stem}`\n\n{_about(path.stem)}\n\n")
        parts.append(_table(("result", "value", "aim", "", "beside", "n", "measured on"), map(_row, results)))
        for result in results:
            if isinstance(table := result["details"].get("table"), Mapping):
                parts.append(f"\n`{result['name']}`{_held(result['details'])}\n\n{_scaling(table)}")
    return "".join(parts)


def write() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


def _about(name: str) -> str:
    """Return the first paragraph of a benchmark's docstring, without importing it."""
    source = Path(__file__).parent / f"{name}.py"
    text = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) if source.exists() else None
    return (text or "").partition("\n\n")[0]


def _row(result: Mapping[str, Any]) -> tuple[str, ...]:
    beside = "" if result["peer"] == "none" else result["peer"]
    if result["peer_value"] is not None:
        beside += f", {_number(result['peer_value'])}"
    value = f"{_number(result['value'])} {result['unit']}"
    return (f"`{result['name']}`", value, result["aim"], _VERDICT[result["holds"]], beside, f"{result['n']:,}",
            result["machine"])  # fmt: skip


def _held(details: Mapping[str, Any]) -> str:
    facts = [f"{details[name]:,} {name}" for name in ("features", "tokens") if name in details]
    of_cpu = f"; the exponent of CPU seconds is {details[_OF_CPU]}" if _OF_CPU in details else ""
    return f", at {' and '.join(facts)}{of_cpu}:" if facts else ":"


def _scaling(table: Mapping[str, Mapping[str, Any]]) -> str:
    stages = list(dict.fromkeys(stage for row in table.values() for stage in row["tokens_per_second_by_stage"]))
    rows = (
        (
            f"{int(size):,}",
            _number(row["seconds"]),
            _number(row["cpu_seconds"]),
            f"{row['tokens_per_second']:,}",
            *(_number(row["seconds_by_stage"].get(stage, 0)) for stage in stages),
            f"{row['peak_memory_bytes'] / 1e9:.2f} GB",
        )
        for size, row in table.items()
    )
    return _table(
        ("size", "seconds", "of CPU", "tokens/s", *(f"s in {stage}" for stage in stages), "peak memory"), rows
    )


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.4g}"


if __name__ == "__main__":
    write()
