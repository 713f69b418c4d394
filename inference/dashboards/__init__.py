"""Dashboards: one pass over a corpus for every feature of every dictionary of a model.

In the order of the data: `corpus` reads documents, `gathering` cuts them into contexts, `contexts` keeps these on disk
in shards; `encoding` runs the model over a shard; `accumulators` reduce what fires to sums (`events`, `bins`, `masses`,
`pairs`) and candidates for examples (`places`, `examples`, `bands`, `selection`); `columns` is the file of a shard,
`partials` where these files lie; `merging` adds the shards up (`token_statistics`, `token_index`, `recording`);
`geometry` looks at the weights; `passes` conducts within a `budget` of memory, and `results` says what comes out.

`run_pass` needs torch and is imported when it is first asked for, so that `inference.dashboards.results` is free of it.
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    if name != "run_pass":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from inference.dashboards.passes import run_pass

    return run_pass
