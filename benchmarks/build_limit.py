"""The largest build that was promised: 10 million tokens x 24,576 features within 4 GB, on two cores.

It takes most of an hour, so `make bench` leaves it out: `make bench NAME=build_limit` runs it. The value is the most
that the process held for itself (RssAnon), weights and all; `python -m benchmarks.memory 10000000 24576 4294967296`
measures the same and tells on standard error how far it is.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.harness import Result
from benchmarks.memory import measured

TOKENS, FEATURES, BUDGET = 10_000_000, 24_576, 4 * 1024**3


def run() -> list[Result]:
    """Measure it."""
    return [result(measured(TOKENS, FEATURES, BUDGET))]


def result(peak: Mapping[str, Any]) -> Result:
    """Return what a line that `benchmarks.memory` printed says."""
    return Result(
        name=f"build_limit: {peak['tokens']:,} tokens x {peak['features']:,} features",
        value=round(peak["own_bytes"] / 1e9, 2),
        unit="GB at most",
        aim="at most 4 GB",
        holds=peak["own_bytes"] <= 4e9,
        peer="none",
        peer_value=None,
        n=peak["tokens"],
        details=peak,
    )


if __name__ == "__main__":
    sys.stdout.write(result(json.loads(Path(sys.argv[1]).read_text().splitlines()[-1])).line() + "\n")
