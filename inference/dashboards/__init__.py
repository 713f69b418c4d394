"""Dashboards: one pass over a corpus for every feature of every dictionary of a model.

`run_pass` needs torch and is imported when it is first asked for, so that `inference.dashboards.results` is free of it.
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    if name != "run_pass":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from inference.dashboards.passes import run_pass

    return run_pass
