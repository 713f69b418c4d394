"""The table of docs/kernels.md, made of what `python -m benchmarks kernels` measured; a test holds them together."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.harness import RESULTS, Result

PAGE = Path(__file__).parent.parent / "docs" / "kernels.md"
BEGIN, END = "<!-- measured: begin -->\n", "<!-- measured: end -->\n"
_HEADS = ("kernel", "shape", "ours, ms (20, 80 %)", "torch, ms (20, 80 %)", "times", "of floor", "torch does", "")


def table(results: Iterable[Mapping[str, Any]]) -> str:
    """Return the table of results as the JSON lines have them."""
    rows = list(results)
    lines = [f"Measured on {rows[0]['machine']}; torch {rows[0]['versions']['torch']}.", ""] if rows else []
    lines += ["| " + " | ".join(_HEADS) + " |", "|" + "---|" * len(_HEADS)]
    for row in rows:
        details = row["details"]
        cells = (
            f"`{details['kernel']}`",
            details["shape"],
            _times(details["milliseconds"]),
            _times(details["torch_milliseconds"]),
            f"{row['value']:.2f}",
            f"{details['percent_of_floor']:.0f} %",
            row["peer"],
            _verdict(row["value"], used=details["used"]),
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def saved() -> list[Mapping[str, Any]]:
    """Return the results that were last measured."""
    lines = (RESULTS / "kernels.json").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def with_table(page: str, results: Iterable[Mapping[str, Any]]) -> str:
    """Return the page with the table of these results in its place."""
    before, _, rest = page.partition(BEGIN)
    return before + BEGIN + table(results) + END + rest.partition(END)[2]


def write(results: Iterable[Result]) -> None:
    """Put the table of new results into the page."""
    rows = [json.loads(json.dumps(asdict(result))) for result in results]
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), rows), encoding="utf-8")


def _times(milliseconds: Mapping[str, float]) -> str:
    return f"{milliseconds['p50']:.3g} ({milliseconds['p20']:.3g}, {milliseconds['p80']:.3g})"


def _verdict(ratio: float, *, used: bool) -> str:
    if ratio < 1:
        return "**loses**" if used else "loses, not used"
    return "" if used else "not used"
