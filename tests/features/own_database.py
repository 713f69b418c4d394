"""A build on a Postgres of its own, for tests that kill the server or fill its disk: `python -m ... STEP SPEC.json`.

The specification names the servers' folder, the model, the dictionaries and the documents. Each step is a process and
prints a line of JSON: `begin` registers everything and builds once, `build` queues another build and takes part,
and `resume` takes up what was left. All of them say what readers see. `on-a-small-disk` does them all with a tablespace
on the file system of `disk`, which another file fills during the second build.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg

from explorer.local.layout import CHECKOUT, Layout, lay_out
from features.binary_copy import HEADER

# What is left of a small disk while a build stores its rows: less than one dictionary takes.
LEFT_BYTES = 300_000


def layout_of(spec: dict[str, Any]) -> Layout:
    """Return the servers of a specification, which keep what they committed when they crash."""
    return lay_out(Path(spec["servers"]))


def step(name: str, spec: Path, **env: str) -> dict[str, Any]:
    """Carry out a step in a process of its own and return what it printed, or its exit status and last words."""
    command = [sys.executable, "-m", "tests.features.own_database", name, str(spec)]
    said = json.loads(spec.read_text())
    env = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "explorer.settings",
        "DATABASE_URL": layout_of(said).postgres.url,
        "FACET_LOCAL": said["servers"],
        "FACET_BUILDS": said["builds"],
        "FACET_THREADS": "1",
        **env,
    }
    done = subprocess.run(command, cwd=CHECKOUT, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return {"status": done.returncode, "error": done.stderr[-4000:]}
    return json.loads(done.stdout.splitlines()[-1])


def begin(spec: dict[str, Any]) -> dict[str, Any]:
    from django.core.management import call_command

    from features import services
    from features.services.corpora import NewDocument

    call_command("migrate", verbosity=0, stdout=sys.stderr)
    call_command("add_model", spec["model"], name="tiny", stdout=sys.stderr)
    for source, path in spec["dictionaries"].items():
        services.dictionaries.add_dictionary(path=Path(path), model="tiny", source=source)
    documents = [NewDocument(name=name, path=Path(path)) for name, path in spec["documents"].items()]
    services.corpora.add_corpus(name="Some files", documents=documents)
    return build(spec)


def build(spec: dict[str, Any]) -> dict[str, Any]:
    """Take part in another build; with KILLED set, what serves its connection is killed behind such a statement."""
    from features import services
    from features.builds import run_build
    from features.models import Dictionary
    from tests.features.conftest import CONTEXT_SIZE, N_TOKENS

    if moment := os.environ.get("KILLED"):
        _kill_behind(moment)
    ids = list(Dictionary.objects.values_list("pk", flat=True))
    run = services.runs.create_build(dictionaries=ids, n_tokens=N_TOKENS, context_size=CONTEXT_SIZE, shard_tokens=1500)
    run_build(run)
    return rows()


def resume(spec: dict[str, Any]) -> dict[str, Any]:
    """Take up the last run, as `resume_runs` or somebody on its page does; `before` is what readers saw until then."""
    from features import services
    from features.builds import run_build
    from features.models import Run

    run, before = Run.objects.latest("id"), rows()
    if run.state == Run.State.FAILED:
        services.runs.resume(run=run.pk)
    else:
        assert services.runs.requeue(run=run.pk)
    run_build(run.pk)
    return rows() | {"before": before}


def rows() -> dict[str, Any]:
    """Return the digest of all rows that readers see, and how the last run stands."""
    from features.models import Dictionary, Run
    from tests.features.test_builds import all_rows

    world = SimpleNamespace(dictionaries={row.source: row for row in Dictionary.objects.order_by("source")})
    run = Run.objects.latest("id")
    digest = sha256(json.dumps(all_rows(world)).encode()).hexdigest()
    return {"rows": digest, "state": run.state, "error": run.error, "remedy": run.remedy}


def on_a_small_disk(spec: dict[str, Any]) -> dict[str, Any]:
    """Begin, build while there is little room left, and resume when there is more."""
    disk, path = Path(spec["disk"]), Path(sys.argv[2])
    layout, ballast = layout_of(spec), disk / "ballast"
    (disk / "tables").mkdir()
    layout.postgres.prepare()
    with layout.postgres.running() as url, psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE TABLESPACE small LOCATION '{disk / 'tables'}'")
        connection.execute(f"ALTER DATABASE {connection.info.dbname} SET default_tablespace = 'small'")
        said = {"begin": step("begin", path)}
        with _filled(disk, ballast):
            said["build"] = step("build", path)
        return said | {"resume": step("resume", path)}


@contextmanager
def _filled(disk: Path, ballast: Path) -> Iterator[None]:
    facts = os.statvfs(disk)
    ballast.write_bytes(bytes(facts.f_bavail * facts.f_frsize - LEFT_BYTES))
    yield
    ballast.unlink()


def _kill_behind(moment: str) -> None:
    """Kill the process of Postgres that serves this one behind a statement, or behind the rows it gets of a COPY."""
    executed, copied, written = psycopg.Cursor.execute, psycopg.Cursor.copy, psycopg.Copy.write
    begun: list[str] = []

    def execute(self: psycopg.Cursor, statement: Any, *others: Any, **options: Any) -> Any:
        done = executed(self, statement, *others, **options)
        if moment in str(statement).replace('"', ""):
            os.kill(self.connection.info.backend_pid, 9)
        return done

    def copy(self: psycopg.Cursor, statement: Any, *others: Any, **options: Any) -> Any:
        begun.append(str(statement).replace('"', ""))
        return copied(self, statement, *others, **options)

    def write(self: psycopg.Copy, data: bytes) -> None:
        written(self, data)
        if moment in begun[-1] and len(data) > len(HEADER):
            os.kill(self.connection.info.backend_pid, 9)

    psycopg.Cursor.execute, psycopg.Cursor.copy, psycopg.Copy.write = execute, copy, write


if __name__ == "__main__":
    name, path = sys.argv[1:]
    spec = json.loads(Path(path).read_text())
    if name != "on-a-small-disk":
        import django

        django.setup()
    said = {"begin": begin, "build": build, "resume": resume, "on-a-small-disk": on_a_small_disk}[name](spec)
    sys.stdout.write(json.dumps(said) + "\n")
