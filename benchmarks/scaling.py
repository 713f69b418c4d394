"""How the time of a build grows with features, with tokens and with workers: a table, and exponents.

Random TopK dictionaries of the width of the demonstration's model, on its text, each built as a user has it, in
processes of its own (`benchmarks.building`). The exponent is the slope of the least-squares line through the logarithms
of sizes and seconds: 1 where twice as much takes twice as long. It is given for the clock and for the CPU time of the
workers, which other work on the machine changes little. Workers have one thread each where they are counted.

A point is written down as soon as it is measured (`.local/benchmarks/scaling.jsonl`), with the commit it belongs to: a
run that was interrupted goes on, and the file goes when all are there.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import weights
from benchmarks.build import stages
from benchmarks.building import Build
from benchmarks.harness import Result

FEATURES = (4096, 16_384, 65_536)
TOKENS = (1_000_000, 3_000_000, 10_000_000)
WORKERS = (1, 2)
# What the series of features and of tokens are held at; that of workers, at both and the least tokens.
N_FEATURES, N_TOKENS = 4096, 262_144
THREADS = 2
_HOOK = "blocks.1.hook_resid_post"
POINTS = weights.ROOT / ".local" / "benchmarks" / "scaling.jsonl"


@dataclass(frozen=True, slots=True)
class Point:
    """The size of one build."""

    n_features: int
    n_tokens: int
    workers: int = 1
    threads: int = THREADS


def run(
    *,
    features: tuple[int, ...] = FEATURES,
    tokens: tuple[int, ...] = TOKENS,
    workers: tuple[int, ...] = WORKERS,
    n_tokens: int = N_TOKENS,
    n_features: int = N_FEATURES,
) -> list[Result]:
    """Measure every size once; what two series share is measured once."""
    series = {
        "features": {n: Point(n, n_tokens) for n in features},
        "tokens": {n: Point(n_features, n) for n in tokens},
        "workers": {n: Point(n_features, min(tokens), n, 1) for n in workers},
    }
    # The smallest first, so that what does not work shows soon.
    points = sorted({point for some in series.values() for point in some.values()}, key=_size)
    runs = _measured(points)
    by_features, by_tokens, by_workers = ({n: runs[point] for n, point in some.items()} for some in series.values())
    POINTS.unlink(missing_ok=True)
    return [
        _law("build_by_features", by_features, {"tokens": next(iter(by_features.values()))["n_tokens"]}),
        _law("build_by_tokens", {run["n_tokens"]: run for run in by_tokens.values()}, {"features": n_features}),
        _by_workers(by_workers, {"features": n_features}),
    ]


def exponent(seconds: Mapping[int, float]) -> float:
    """Return b of the power law a * size ** b that is nearest to the seconds of some sizes."""
    return float(np.polyfit(np.log(list(seconds)), np.log(list(seconds.values())), 1)[0])


def _size(point: Point) -> tuple[int, int]:
    return point.n_features * point.n_tokens, point.workers * point.threads


def _measured(points: list[Point]) -> dict[Point, dict[str, Any]]:
    """Measure the points that no interrupted run of this commit has measured."""
    model, commit = str(weights.load().model_folder), _commit()
    runs = _kept(commit)
    with tempfile.TemporaryDirectory() as folder:
        for number, point in enumerate(points, 1):
            began = time.perf_counter()
            if not (was_kept := point in runs):
                path = Path(folder, str(point.n_features))
                dictionary = str(
                    weights.random_topk(path, width=weights.WIDTH, n_features=point.n_features, hook=_HOOK)
                )
                sizes = {"n_tokens": point.n_tokens, "workers": point.workers, "threads": point.threads}
                runs[point] = Build(model=model, dictionary=dictionary, **sizes).measured()
                _keep(commit, point, runs[point])
            took = "measured before" if was_kept else f"{time.perf_counter() - began:.0f} s with servers and warm-up"
            print(
                f"{number} of {len(points)}: {point.n_features:,} features, {point.n_tokens:,} tokens,"
                f" {point.workers} x {point.threads} threads: {runs[point]['seconds']:.1f} s,"
                f" {runs[point]['cpu_seconds']:.1f} s of CPU ({took})",
                file=sys.stderr,
                flush=True,
            )
    return runs


def _kept(commit: str) -> dict[Point, dict[str, Any]]:
    rows = map(json.loads, POINTS.read_text().splitlines()) if POINTS.is_file() else ()
    return {Point(**row["point"]): row["run"] for row in rows if row["commit"] == commit}


def _keep(commit: str, point: Point, run: dict[str, Any]) -> None:
    POINTS.parent.mkdir(parents=True, exist_ok=True)
    sizes = {name: getattr(point, name) for name in Point.__slots__}
    with POINTS.open("a") as file:
        file.write(json.dumps({"commit": commit, "point": sizes, "run": run}) + "\n")


def _commit() -> str:
    command = ["git", "-C", str(weights.ROOT), "rev-parse", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _law(name: str, runs: Mapping[int, dict[str, Any]], held: Mapping[str, int]) -> Result:
    slope = exponent({size: run["seconds"] for size, run in runs.items()})
    of_cpu = exponent({size: run["cpu_seconds"] for size, run in runs.items()})
    return Result(
        name=name,
        value=round(slope, 3),
        unit="exponent",
        aim="at most 1",
        holds=slope <= 1,
        peer="none",
        peer_value=None,
        n=len(runs),
        details={
            **held,
            "exponent_of_cpu_seconds": round(of_cpu, 3),
            "table": {str(size): _row(run) for size, run in runs.items()},
        },
    )


def _by_workers(runs: Mapping[int, dict[str, Any]], held: Mapping[str, int]) -> Result:
    seconds = {count: run["seconds"] for count, run in runs.items()}
    most = max(seconds)
    ratio = seconds[min(seconds)] / seconds[most]
    return Result(
        name="build_by_workers",
        value=round(ratio, 2),
        unit=f"times faster with {most}",
        aim="at least 1.6 with 2 workers on 2 idle cores",
        holds=ratio >= 1.6,
        peer="1 worker",
        peer_value=round(seconds[min(seconds)], 1),
        n=len(runs),
        details={
            **held,
            "tokens": runs[most]["n_tokens"],
            "exponent": round(exponent(seconds), 3),
            "table": {str(count): _row(run) for count, run in runs.items()},
        },
    )


def _row(run: dict[str, Any]) -> dict[str, Any]:
    return {
        "seconds": round(run["seconds"], 1),
        "cpu_seconds": round(run["cpu_seconds"], 1),
        "tokens_per_second": round(run["n_tokens"] / run["seconds"]),
        "shards": run["measurements"]["shards"],
        "workers": run["measurements"]["workers"],
        **stages(run),
    }
