"""Importing dashboards: features a second, and the peak of memory, for files as Neuronpedia publishes them.

The files are made up, in its export layout: prompts that many features share, top activations and some of each of five
intervals, values with three decimals, histograms of 50 bins, one explanation. There are 45 contexts of 128 tokens a
feature, or 20 of 64. A process of its own imports them into an embedded Postgres of its own.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import Result

N_FEATURES, N_PROMPTS, PER_FILE = 4096, 2048, 1024
N_INTERVALS, N_FIRING = 5, 12
AIM = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """How much files say of a feature: tokens of a context, top activations, and those of each interval."""

    name: str
    n_tokens: int
    n_top: int
    per_interval: int

    @property
    def n_activations(self) -> int:
        return self.n_top + N_INTERVALS * self.per_interval


CASES = (
    Case(name="import", n_tokens=128, n_top=20, per_interval=5),
    Case(name="import_short", n_tokens=64, n_top=10, per_interval=2),
)


def run() -> list[Result]:
    """Write the files of each case, import them once, and report."""
    return [result for case in CASES for result in _case(case)]


def _case(case: Case) -> list[Result]:
    with tempfile.TemporaryDirectory(prefix="facet-import-") as root:
        folder = Path(root) / "files"
        plain, gzipped = write(folder, case)
        # As root, Postgres runs as another account, which must reach its data.
        Path(root).chmod(0o755)
        command = [sys.executable, "-m", "benchmarks.import_features", str(folder), str(Path(root) / "local")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])
    measured = json.loads(done.stdout.splitlines()[-1])
    rate = N_FEATURES / measured["seconds"]
    used = measured["cpu_seconds"] + measured["cpu_seconds_of_postgres"]
    details = measured | {
        "activations": N_FEATURES * case.n_activations,
        "tokens_in_a_context": case.n_tokens,
        "bytes_plain": plain,
        "bytes_gzipped": gzipped,
        "features_per_cpu_second": round(N_FEATURES / used, 1),
        "megabytes_a_second": round(plain / measured["seconds"] / 1e6, 1),
        "megabytes_per_cpu_second": round(plain / used / 1e6, 1),
    }
    return [
        Result(
            name=case.name,
            value=round(rate, 1),
            unit="features/s",
            aim=f"at least {AIM:,}",
            holds=rate >= AIM,
            peer="none",
            peer_value=None,
            n=N_FEATURES,
            details=details,
        ),
        Result(
            name=f"{case.name}_memory",
            value=measured["peak_bytes"],
            unit="bytes",
            aim="at most 500,000,000",
            holds=measured["peak_bytes"] <= 500_000_000,
            peer="size of the files, plain",
            peer_value=float(plain),
            n=N_FEATURES,
        ),
    ]


def write(folder: Path, case: Case = CASES[0]) -> tuple[int, int]:
    """Write a source below `folder`; return its bytes, plain and gzipped."""
    random.seed(0)
    words = [f" w{number}" for number in range(3000)] + ["the", "\n", ",", " é"]
    prompts = [[random.choice(words) for _ in range(case.n_tokens)] for _ in range(N_PROMPTS)]
    here = folder / "gpt2-small" / "6-res-made-up"
    here.mkdir(parents=True)
    config = {"id": here.name, "modelId": "gpt2-small", "num_prompts": 24_576, "num_tokens_in_prompt": case.n_tokens}
    (here / "source.jsonl").write_text(json.dumps(config))
    plain = packed = 0
    for first in range(0, N_FEATURES, PER_FILE):
        indices = range(first, first + PER_FILE)
        kinds = {
            "features": [_feature(index) for index in indices],
            "activations": [row for index in indices for row in _activations(index, prompts, case)],
            "explanations": [{"index": str(index), "description": f"words like {index}"} for index in indices],
        }
        for kind, rows in kinds.items():
            (here / kind).mkdir(exist_ok=True)
            data = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
            compressed = gzip.compress(data, 5)
            (here / kind / f"batch-{first // PER_FILE}.jsonl.gz").write_bytes(compressed)
            plain, packed = plain + len(data), packed + len(compressed)
    return plain, packed


def _feature(index: int) -> dict[str, Any]:
    bins = [round(0.2 * number + 0.1, 3) for number in range(50)]
    effects = [round(0.02 * number - 0.5, 3) for number in range(50)]
    return {
        "modelId": "gpt2-small",
        "layer": "6-res-made-up",
        "index": str(index),
        "maxActApprox": 10.0,
        "frac_nonzero": 0.001,
        "freq_hist_data_bar_heights": [max(0, 60 - number) for number in range(50)],
        "freq_hist_data_bar_values": bins,
        "logits_hist_data_bar_heights": [1000 - abs(number - 25) * 40 for number in range(50)],
        "logits_hist_data_bar_values": effects,
        "pos_str": [f" w{number}" for number in range(10)],
        "pos_values": [round(1 - 0.05 * number, 3) for number in range(10)],
        "neg_str": [f" w{number}" for number in range(10, 20)],
        "neg_values": [round(0.05 * number - 1, 3) for number in range(10)],
    }


def _activations(index: int, prompts: list[list[str]], case: Case) -> list[dict[str, Any]]:
    groups = [(-1.0, 10.0, -1.0, case.n_top)]
    groups += [(2.0 * i, 2.0 * (i + 1), 0.2, case.per_interval) for i in range(N_INTERVALS)]
    rows = []
    for low, high, share, n in groups:
        for number in range(n):
            values = [0.0] * case.n_tokens
            top = 10.0 - 0.1 * number if low < 0 else random.uniform(low, high)
            places = random.sample(range(case.n_tokens), N_FIRING)
            for place in places:
                values[place] = round(random.uniform(0.01, max(0.02, top)), 3)
            values[places[0]] = round(max(top, 0.02), 3)
            rows.append(
                {
                    "id": f"c{index:012x}{len(rows):012x}",
                    "tokens": random.choice(prompts),
                    "modelId": "gpt2-small",
                    "layer": "6-res-made-up",
                    "index": str(index),
                    "maxValue": values[places[0]],
                    "maxValueTokenIndex": places[0],
                    "minValue": 0.0,
                    "values": values,
                    "binMin": low,
                    "binMax": high,
                    "binContains": share,
                    "qualifyingTokenIndex": places[0],
                    "creatorId": "clkht01d40000jv08hvalcvly",
                    "createdAt": "2025-01-01T00:00:00.000Z",
                    "dfaValues": [],
                    "lossValues": [],
                    "dataIndex": None,
                    "dataSource": None,
                }
            )
    return rows


def _import(folder: str, local: Path) -> dict[str, Any]:
    from explorer.local.layout import lay_out

    layout = lay_out(local, durable=False)
    with layout.postgres.running() as url:
        os.environ |= {
            "DATABASE_URL": url,
            "FACET_LOCAL": str(local),
            "DJANGO_SETTINGS_MODULE": "explorer.settings",
            "FACET_LOG_LEVEL": "WARNING",
        }
        import django

        django.setup()
        from django.core.management import call_command
        from django.db import connections

        from features import services
        from features.jobs import work
        from features.models import Run
        from inference.dashboards.results import Progress

        call_command("migrate", verbosity=0)
        seconds: dict[str, float] = {}
        last = [time.perf_counter(), ""]

        def watch(progress: Progress, rate: float | None) -> None:
            now = time.perf_counter()
            seconds[last[1]] = seconds.get(last[1], 0.0) + now - last[0]
            last[:] = [now, progress.phase]

        run_id = services.imports.create_import(place=folder)
        postmaster = next(local.rglob("postmaster.pid"))
        of_postgres = _cpu_of_tree(int(postmaster.read_text().splitlines()[0]))
        before, used, started = _peak(), _cpu(), time.perf_counter()
        work(run_id, watch=watch)
        spent, used = time.perf_counter() - started, _cpu() - used
        of_postgres = _cpu_of_tree(int(postmaster.read_text().splitlines()[0])) - of_postgres
        run = Run.objects.get(id=run_id)
        if run.state != Run.State.DONE:
            raise RuntimeError(run.error)
        connections.close_all()
    stages = {phase: round(value, 2) for phase, value in seconds.items() if phase}
    return {
        "seconds": round(spent, 2),
        "seconds_by_phase": stages,
        "cpu_seconds": round(used, 2),
        "cpu_seconds_of_postgres": round(of_postgres, 2),
        "peak_bytes": _peak(),
        "before_bytes": before,
    }


def _cpu() -> float:
    """Return the processor time of this process and of its readers: what other work on the machine stretches less."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _cpu_of_tree(root: int) -> float:
    """Return the processor time of a process, of its children that are there, and of those that ended."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        own = int(path.parent.name) == root
        if own or int(fields[1]) == root:
            ticks += sum(map(int, fields[11:15] if own else fields[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _peak() -> int:
    """Return the peak of this process's memory: Linux' VmHWM."""
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])


if __name__ == "__main__":
    print(json.dumps(_import(sys.argv[1], Path(sys.argv[2]))))
