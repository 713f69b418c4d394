"""Every kernel against what torch does, on the device at hand: medians, how far from what the chip must take, and
which path is taken.

On a CPU one thread is measured, in its own CPU time, because other processes share the cores. On a GPU the clock is
the device's, and its cache is emptied before each run. A case whose result is wrong is not timed. The floor of a case
is the larger of its bytes over the speed of a copy and its operations over the speed of a float32 (on a GPU: bfloat16)
product, both measured here first.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import torch

from benchmarks import kernel_page
from benchmarks.harness import Result
from benchmarks.kernel_cases import Case, cases

_SECONDS_A_CASE, _MOST_ROUNDS, _FEWEST_ROUNDS = 3.0, 40, 5


def run() -> list[Result]:
    """Measure every case and write docs/kernels.md's table anew."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            bytes_per_second, flops_per_second = _speed(device)
            results = [_measured(case, device, bytes_per_second, flops_per_second) for case in cases(device)]
    finally:
        torch.set_num_threads(threads)
    kernel_page.write(results)
    return results


def _measured(case: Case, device: torch.device, bytes_per_second: float, flops_per_second: float) -> Result:
    if not case.agrees(case.ours(), case.torch()):
        raise AssertionError(f"{case.kernel} at {case.shape} is wrong: it is not timed")
    ours, theirs = _alternate(case.ours, case.torch, device)
    ratio = _at(theirs, 0.5) / _at(ours, 0.5)
    floor = max(case.n_bytes / bytes_per_second, case.flops / flops_per_second)
    print(f"{case.kernel:28} {case.shape:50} {ratio:8.2f}", file=sys.stderr, flush=True)
    return Result(
        name=f"{case.kernel}: {case.shape}",
        value=round(ratio, 2),
        unit="times torch's speed",
        aim="faster, or not used",
        holds=ratio >= 1 or not case.used,
        peer=case.peer,
        peer_value=round(1000 * _at(theirs, 0.5), 4),
        n=len(ours),
        details={
            "kernel": case.kernel,
            "shape": case.shape,
            "used": case.used,
            "milliseconds": _percentiles(ours),
            "torch_milliseconds": _percentiles(theirs),
            "floor_milliseconds": round(1000 * floor, 4),
            "percent_of_floor": round(100 * floor / _at(ours, 0.5), 1),
            "device": torch.cuda.get_device_name() if device.type == "cuda" else "CPU, one thread, its own time",
        },
    )


def _alternate(
    ours: Callable[[], object], theirs: Callable[[], object], device: torch.device
) -> tuple[list[float], list[float]]:
    """Return the sorted seconds of both sides, in turns, after a turn that does not count."""
    seconds: tuple[list[float], list[float]] = ([], [])
    _timed(ours, device), _timed(theirs, device)
    began = time.perf_counter()
    while len(seconds[0]) < _MOST_ROUNDS:
        for side, run_side in zip(seconds, (ours, theirs), strict=True):
            side.append(_timed(run_side, device))
        if len(seconds[0]) >= _FEWEST_ROUNDS and time.perf_counter() - began > _SECONDS_A_CASE:
            break
    return sorted(seconds[0]), sorted(seconds[1])


def _timed(run_side: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        _emptied = torch.empty(1 << 28, dtype=torch.int8, device=device).zero_()
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        run_side()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1000
    # Work of microseconds is repeated, for the clock's sake.
    count, began = 0, time.thread_time()
    while count == 0 or time.thread_time() - began < 1e-3:
        run_side()
        count += 1
    return (time.thread_time() - began) / count


def _speed(device: torch.device) -> tuple[float, float]:
    """Return bytes a second of a copy, read and written, and operations a second of a product."""
    source = torch.randn(1 << 25, device=device)
    target = torch.empty_like(source)
    copied = min(_timed(lambda: target.copy_(source), device) for _ in range(5))
    square = torch.randn(2048, 2048, device=device)
    square = square.bfloat16() if device.type == "cuda" else square
    multiplied = min(_timed(lambda: square @ square, device) for _ in range(5))
    return 2 * source.nbytes / copied, 2 * 2048**3 / multiplied


def _at(ordered: list[float], share: float) -> float:
    return ordered[round(share * (len(ordered) - 1))]


def _percentiles(ordered: list[float]) -> dict[str, float]:
    return {name: round(1000 * _at(ordered, share), 4) for name, share in (("p20", 0.2), ("p50", 0.5), ("p80", 0.8))}
