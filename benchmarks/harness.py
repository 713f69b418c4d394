"""What benchmarks share: a result's shape, the machine it was measured on, and timing that takes turns.

A ratio is measured side by side: the two sides alternate, so that what else the machine does meets both, and medians
are compared.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results"
_PACKAGES = ("torch", "transformers", "numpy", "tokenizers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One measured number. `holds` is None where there is no aim to compare with; `details` adds what explains it."""

    name: str
    value: float
    unit: str
    aim: str
    holds: bool | None
    peer: str
    peer_value: float | None
    n: int
    machine: str = field(default_factory=lambda: machine())
    versions: Mapping[str, str] = field(default_factory=lambda: versions())
    details: Mapping[str, object] = field(default_factory=dict)

    def line(self) -> str:
        """Return the result as one line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)


def save(results: list[Result], name: str) -> Path:
    """Write a benchmark's results, one line each, to results/NAME.json."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text("".join(f"{result.line()}\n" for result in results), encoding="utf-8")
    return path


def machine() -> str:
    """Say what the numbers were measured on: processor, cores that this process may use, load of the last minute."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    load = os.getloadavg()[0]
    return f"{_processor()}, {cores} cores{gpu}, {torch.get_num_threads()} threads, load {load:.1f}, {sys.platform}"


def versions() -> dict[str, str]:
    """Return the versions that decide the numbers."""
    return {"python": platform.python_version(), **{package: metadata.version(package) for package in _PACKAGES}}


def take_turns(sides: Mapping[str, Callable[[], object]], *, rounds: int, warm_up: int = 2) -> dict[str, float]:
    """Return the median seconds of each side, measured in alternation."""
    return {name: statistics.median(seconds) for name, seconds in turns(sides, rounds=rounds, warm_up=warm_up).items()}


def turns(
    sides: Mapping[str, Callable[[], object]], *, rounds: int, warm_up: int = 2, turn_seconds: float = 0.0
) -> dict[str, list[float]]:
    """Return the seconds of each side in every round.

    With `turn_seconds` a side runs again and again until its turn has lasted that long, and a round's number is the
    mean of the turn. Without it a side that is done in microseconds is measured just after the other has emptied its
    caches, and one pause of the scheduler outweighs it.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(warm_up + rounds):
        for name, run in sides.items():
            started, count = time.perf_counter(), 0
            while count == 0 or time.perf_counter() - started < turn_seconds:
                run()
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                count += 1
            if number >= warm_up:
                seconds[name].append((time.perf_counter() - started) / count)
    return seconds


def spread(seconds: list[float]) -> list[float]:
    """Return the 20th percentile, the median and the 80th, in milliseconds."""
    of_ten = statistics.quantiles(seconds, n=10, method="inclusive")
    return [round(1000 * value, 4) for value in (of_ten[1], of_ten[4], of_ten[7])]


def cpu_seconds(pid: int) -> float:
    """Return the seconds of processor time that a process has used, which other work on the machine stretches less."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch use so many threads for the length of a block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
