"""The law by which a build's memory grows: its peak at several numbers of tokens and of features, each in a process.

The peak is what the process holds for itself (RssAnon), sampled; pages of files that are mapped can be taken back by
the system and are told apart. The exponent is that of the least-squares line through the logarithms.
`python -m benchmarks.memory TOKENS FEATURES BYTES` measures one build of any size, within a budget of BYTES, or, where
that is 0, within the least with which such a build begins.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks import weights
from benchmarks.harness import Result
from inference.dashboards.budget import SHARD_TOKENS, peak_bytes, resident_bytes, shard_bytes
from inference.dashboards.passes import Pass
from inference.dashboards.results import Progress
from inference.dictionaries import load_dictionary

TOKENS = (262_144, 524_288, 1_048_576)
FEATURES = (4096, 8192, 16_384)
BUDGET = 4 * 1024**3
# Small, so that even the smallest build has several of them.
_SHARD_TOKENS = 32_768
_MOMENT_SECONDS = 0.02
# What may come between two looks at what a process holds.
_SLACK_BYTES = 20_000_000
_TOLD_EVERY_SECONDS = 20


def run() -> list[Result]:
    """Measure peaks over tokens at a middling number of features, and over features at the least number of tokens."""
    tokens = {n: measured(n, FEATURES[1], BUDGET) for n in TOKENS}
    features = {n: tokens[TOKENS[0]] if n == FEATURES[1] else measured(TOKENS[0], n, BUDGET) for n in FEATURES}
    return [
        _law("build_memory_by_tokens", tokens, TOKENS[-1], "an exponent of at most 0.1", 0.1),
        _law("build_memory_by_features", features, TOKENS[0], "an exponent of at most 1", 1.0),
    ]


def _law(name: str, peaks: dict[int, dict], n: int, aim: str, most: float) -> Result:
    sizes = np.array(list(peaks), dtype=float)
    own = np.array([peak["own_bytes"] - peak["before_bytes"] for peak in peaks.values()], dtype=float)
    exponent = float(np.polyfit(np.log(sizes), np.log(own), 1)[0])
    return Result(
        name=name,
        value=round(exponent, 3),
        unit="exponent",
        aim=aim,
        holds=exponent <= most,
        peer="none",
        peer_value=None,
        n=n,
        details={"peaks": {str(size): peak for size, peak in peaks.items()}, "budget_bytes": BUDGET},
    )


def measured(n_tokens: int, n_features: int, budget: int) -> dict[str, int]:
    command = [sys.executable, "-m", "benchmarks.memory", str(n_tokens), str(n_features), str(budget)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


class _Peak(threading.Thread):
    """Samples what this process holds."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.highest = self.now = resident_bytes()

    def run(self) -> None:
        while True:
            self.now = resident_bytes()
            self.highest = max(self.highest, self.now)
            time.sleep(_MOMENT_SECONDS)


def _telling(peak: _Peak) -> Callable[[Progress], None]:
    """Return what writes now and then, on standard error, how far a build is and what it holds."""
    started, last = time.perf_counter(), 0.0

    def told(progress: Progress) -> None:
        nonlocal last
        if (now := time.perf_counter() - started) - last >= _TOLD_EVERY_SECONDS:
            last = now
            where = f"{progress.phase} {progress.done:,} of {progress.total:,} {progress.unit}"
            held = f"holds {peak.now / 1e9:.2f} GB, at most {peak.highest / 1e9:.2f}"
            print(f"{now:6.0f} s, {time.process_time():6.0f} s of CPU: {where}; {held}", file=sys.stderr, flush=True)

    return told


def _build(n_tokens: int, n_features: int, budget: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory(prefix="facet-memory-") as folder:
        hook = "blocks.1.hook_resid_post"
        path = weights.random_topk(Path(folder) / "dictionary", width=weights.WIDTH, n_features=n_features, hook=hook)
        loaded = weights.load()
        dictionaries = {"1-res-topk": load_dictionary(path)}
        before = resident_bytes()
        budget = budget or before + shard_bytes(n_features) + _SLACK_BYTES
        peak = _Peak()
        peak.start()
        started, peaks = time.perf_counter(), {}
        running = Pass(
            loaded.model,
            dictionaries,
            weights.documents_for(n_tokens),
            workdir=f"{folder}/work",
            n_tokens=n_tokens,
            shard_tokens=_SHARD_TOKENS if n_tokens <= TOKENS[-1] else SHARD_TOKENS,
            memory=budget,
        )
        steps = {
            "read": lambda: running.read(told),
            "encode": lambda: running.make_all(told),
            "finish": lambda: [board.dead for board in running.finish(running.contexts(), told)],
        }
        seconds, told = {}, _telling(peak)
        for name, step in steps.items():
            peak.highest = peak.now
            began = time.perf_counter()
            step()
            seconds[name], peaks[name] = round(time.perf_counter() - began, 1), peak.highest
        return {
            "tokens": running.index.n_tokens,
            "features": n_features,
            "budget_bytes": budget,
            "before_bytes": before,
            "own_bytes": max(peaks.values()),
            "own_bytes_by_step": peaks,
            "with_mapped_files_bytes": peak_bytes(),
            "seconds": round(time.perf_counter() - started, 1),
            "cpu_seconds": round(time.process_time(), 1),
            "threads": torch.get_num_threads(),
            "shards": running.n_shards,
            "seconds_by_step": seconds,
            "seconds_by_stage": {name: round(spent, 1) for name, spent in running.clock.seconds.items()},
            "disk_bytes": sum(path.stat().st_size for path in Path(folder, "work").rglob("*") if path.is_file()),
            "weights": loaded.which,
        }


if __name__ == "__main__":
    print(json.dumps(_build(*map(int, sys.argv[1:4]))))
