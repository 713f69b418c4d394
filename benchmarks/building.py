"""One build of dashboards as a user has it: workers, database and all, on servers that live as long as the build.

`python -m benchmarks.building SPEC.json` adds a model, a dictionary and text to an empty database, starts as many batch
workers as asked, queues a build, and prints a line of JSON when the dashboards can be read: seconds, seconds by stage,
peak memory. Before that the workers build a little of other text, as workers that are not just started have: what
importing torch takes is not counted, while reading the text, loading the weights and storing are. Everything is made in
a temporary folder.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_POLL_SECONDS = 0.2
_START_SECONDS = 120
_WARM_UP_DOCUMENTS, _WARM_UP_TOKENS = 3, 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """What to build, and with how many workers of how many threads. `memory` is of each worker, in bytes."""

    model: str
    dictionary: str
    n_tokens: int
    workers: int = 1
    threads: int = 2
    memory: int | None = None

    def measured(self) -> dict[str, Any]:
        """Carry it out in a process of its own and return what it printed; raise RuntimeError with what it said."""
        with tempfile.TemporaryDirectory() as folder:
            spec = Path(folder, "spec.json")
            spec.write_text(json.dumps(asdict(self)))
            command = [sys.executable, "-m", "benchmarks.building", str(spec)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(done.stderr[-4000:])
        return json.loads(done.stdout.splitlines()[-1])


def main(path: str) -> None:
    build = Build(**json.loads(Path(path).read_text()))
    with tempfile.TemporaryDirectory(prefix="facet-bench-") as folder:
        Path(folder).chmod(0o755)  # as root, Postgres runs as another account
        with _servers(Path(folder)) as env:
            os.environ |= env
            print(json.dumps(_carry_out(build, Path(folder), env)))


@contextmanager
def _servers(folder: Path) -> Iterator[dict[str, str]]:
    """Run embedded servers; the value is the environment of processes on them."""
    from explorer.local.layout import lay_out

    layout = lay_out(folder / "servers", durable=False)
    with layout.postgres.running() as database, layout.valkey.running() as valkey:
        yield {
            "DATABASE_URL": database,
            "REDIS_URL": valkey,
            "FACET_LOCAL": str(folder / "local"),
            "DJANGO_SETTINGS_MODULE": "explorer.settings",
            "PYTHONUNBUFFERED": "1",
        }


def _carry_out(build: Build, folder: Path, env: Mapping[str, str]) -> dict[str, Any]:
    import django

    django.setup()
    from django.core.management import call_command

    from benchmarks.harness import cpu_seconds
    from benchmarks.weights import documents_for
    from features import services
    from features.models import Dictionary, Run
    from features.queue import enqueue_run
    from features.services.corpora import NewDocument

    quiet = {"verbosity": 0, "stdout": sys.stderr}
    call_command("migrate", **quiet)
    call_command("add_model", build.model, name="bench", **quiet)
    for source in ("0-warm-up", "1-bench"):
        call_command("add_dictionary", build.dictionary, model="bench", source=source, release="bench", **quiet)
    texts = [NewDocument(name=document.name, path=Path(document.path)) for document in documents_for(build.n_tokens)]
    few, many = (
        services.corpora.add_corpus(name=name, documents=chosen).slug
        for name, chosen in (("few", texts[:_WARM_UP_DOCUMENTS]), ("many", texts))
    )

    def carried_out(source: str, corpus: str, n_tokens: int) -> tuple[float, Dictionary]:
        row = Dictionary.objects.get(source=source)
        started = time.perf_counter()
        run = services.runs.create_build(dictionaries=[row.pk], corpus=corpus, n_tokens=n_tokens, memory=build.memory)
        enqueue_run(run)
        while (state := Run.objects.get(pk=run)).state in Run.ACTIVE:
            time.sleep(_POLL_SECONDS)
        seconds = time.perf_counter() - started
        if state.state != Run.State.DONE:
            raise RuntimeError(f"{state.state}: {state.error}")
        row.refresh_from_db()
        return seconds, row

    with _workers(build, folder, env) as pids:
        carried_out("0-warm-up", few, _WARM_UP_TOKENS)
        before = sum(map(cpu_seconds, pids))
        seconds, row = carried_out("1-bench", many, build.n_tokens)
        cpu = sum(map(cpu_seconds, pids)) - before
    return {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "n_features": row.n_features,
        "n_tokens": row.stats["n_tokens"],
        "measurements": row.stats["measurements"],
    }


@contextmanager
def _workers(build: Build, folder: Path, env: Mapping[str, str]) -> Iterator[list[int]]:
    """Run batch workers, wait until each is ready, and give their process ids."""
    from explorer.local import children, commands
    from explorer.local.layout import CHECKOUT

    running = []
    try:
        for number in range(build.workers):
            command = [f"batch{number}@%h" if part == "batch@%h" else part for part in commands.worker("batch")]
            log = folder / f"worker-{number}.log"
            threads = {"FACET_THREADS": str(build.threads), "OMP_NUM_THREADS": str(build.threads)}
            child = children.spawn(command, log=log, cwd=CHECKOUT, env={**os.environ, **env, **threads})
            running.append((child, log))
        deadline = time.monotonic() + _START_SECONDS
        for child, log in running:
            while b" ready." not in log.read_bytes():
                if child.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(log.read_text(errors="replace")[-4000:])
                time.sleep(_POLL_SECONDS)
        yield [child.pid for child, _ in running]
    finally:
        for child, _ in running:
            children.stop(child, seconds=5)


if __name__ == "__main__":
    main(sys.argv[1])
