"""Dashboards: one pass over a corpus for every feature of every dictionary of a model.

In the order of the data: `corpus` reads documents into contexts; `encoding` runs the model over a shard of them;
`accumulators` reduce what fires to sums (`events`, `bins`, `pairs`) and candidates for examples (`examples`,
`selection`); `partials` keeps each shard's result on disk; `merging` adds the shards up; `geometry` looks at the
weights; `passes` conducts, and `results` says what comes out.

`run_pass` needs torch and is imported when it is first asked for, so that `inference.dashboards.results` is free of it.
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    if name != "run_pass":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from inference.dashboards.passes import run_pass

    return run_pass
