"""Builds that several processes share: any of them may fail or die at any moment, and the rows are the same."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.db import connection

from explorer.local import children, commands
from explorer.local.layout import lay_out
from features import selectors, services
from features.builds import run_build
from features.models import Run, Shard
from features.queue import enqueue_run
from inference.errors import Conflict
from tests.features.conftest import CONTEXT_SIZE, N_TOKENS, World
from tests.features.test_builds import CHECKOUT, all_rows
from tests.processes import wait_until

SHARD_TOKENS = 400
# Larger than contexts, smaller than the partial result of a shard.
TOO_SMALL = 60_000


@pytest.fixture
def builds_folder(settings, tmp_path):
    settings.FACET_BUILDS = str(tmp_path / "builds")
    return settings.FACET_BUILDS


@pytest.fixture
def env(process_env, builds_folder):
    return process_env | {"DJANGO_SETTINGS_MODULE": "explorer.settings", "FACET_BUILDS": builds_folder}


@pytest.fixture
def committed(parts, transactional_db, builds_folder):
    """The parts, registered where other processes see them, and built once."""
    with built_once(parts) as world:
        yield world


@contextmanager
def built_once(parts):
    """Register parts where other processes see them, build them once, and remove them."""
    model = services.models.add_model(facts=parts.facts, slug="tiny")
    corpus = services.corpora.add_corpus(name="Some files", documents=parts.documents)
    dictionaries = {
        source: services.dictionaries.add_dictionary(path=path, model="tiny")
        for source, path in parts.dictionaries.items()
    }
    world = World(parts=parts, model=model, corpus=corpus, dictionaries=dictionaries)
    run_build(queue(world))
    yield world
    Run.objects.update(state=Run.State.FAILED)
    for dictionary in dictionaries.values():
        services.dictionaries.remove_dictionary(dictionary=dictionary.pk)


def queue(world) -> int:
    ids = [dictionary.pk for dictionary in world.dictionaries.values()]
    return services.runs.create_build(
        dictionaries=ids, n_tokens=N_TOKENS, context_size=CONTEXT_SIZE, shard_tokens=SHARD_TOKENS
    )


def start_worker(number: int, env, logs: Path, file_limit: int | None = None):
    """Start a batch worker, which cannot write files beyond a limit."""
    command = commands.worker("batch")
    command[command.index("-n") + 1] = f"batch{number}@%h"
    if file_limit is not None:
        command = ["prlimit", f"--fsize={file_limit}", *command]
    log = logs / f"worker-{number}.log"
    child = children.spawn(command, log=log, cwd=CHECKOUT, env=env)
    wait_until(lambda: b" ready." in log.read_bytes(), child=child, log=log, what=f"worker {number}")
    return child


def wait_for_end(run: int, seconds: float = 150) -> Run:
    deadline = time.monotonic() + seconds
    while (row := Run.objects.get(pk=run)).state in Run.ACTIVE:
        assert time.monotonic() < deadline, (row.state, row.phase, list(row.lines.values_list("text", flat=True)))
        time.sleep(0.1)
    return row


def in_a_process(code: str, env, **options) -> subprocess.Popen:
    code = f"import django; django.setup(); {code}"
    return subprocess.Popen([sys.executable, "-c", code], cwd=CHECKOUT, env=env, **options)


def test_two_workers_share_a_build_and_the_rows_are_those_of_one(committed, env, valkey, tmp_path):
    expected = all_rows(committed)
    workers = [start_worker(number, env, tmp_path) for number in (1, 2)]
    try:
        run = queue(committed)
        enqueue_run(run)
        end = wait_for_end(run)
        assert (end.state, end.error) == ("done", "")
        makers = set(Shard.objects.filter(run=run).values_list("worker", flat=True))
        assert len(makers) == 2, makers
        assert all_rows(committed) == expected
    finally:
        for worker in workers:
            children.stop(worker, seconds=5)


def test_what_fails_on_one_worker_is_made_by_another(committed, env, valkey, tmp_path):
    expected = all_rows(committed)
    workers = [start_worker(1, env, tmp_path, file_limit=TOO_SMALL), start_worker(2, env, tmp_path)]
    try:
        run = queue(committed)
        enqueue_run(run)
        end = wait_for_end(run)
        assert (end.state, end.error) == ("done", "")
        shards = list(Shard.objects.filter(run=run))
        assert {shard.worker.partition("@")[0] for shard in shards} == {"batch2"}
        failures = [failure for shard in shards for failure in shard.failures]
        assert failures and {failure["worker"].partition("@")[0] for failure in failures} == {"batch1"}
        assert "may not become so large" in failures[0]["error"]
        assert all_rows(committed) == expected
    finally:
        for worker in workers:
            children.stop(worker, seconds=5)


def test_a_worker_that_is_killed_leaves_its_shard_to_the_other(committed, env, valkey, tmp_path):
    expected = all_rows(committed)
    workers = [start_worker(number, env, tmp_path) for number in (1, 2)]
    try:
        run = queue(committed)
        enqueue_run(run)
        while Shard.objects.filter(run=run).exclude(worker="").values("worker").distinct().count() < 2:
            assert Run.objects.get(pk=run).state in Run.ACTIVE
            time.sleep(0.02)
        workers[0].kill()
        workers[0].wait()
        end = wait_for_end(run)
        assert (end.state, end.error) == ("done", "")
        assert all_rows(committed) == expected
    finally:
        for worker in workers:
            children.stop(worker, seconds=5)


# Where a process kills itself: behind so many calls of a function.
MOMENTS = {
    "cutting text": ("inference.dashboards.gathering", "Gathered.add", 1),
    "writing contexts": ("inference.dashboards.columns", "ColumnWriter.array", 20),
    "encoding": ("inference.dashboards.encoding", "ShardEncoder._encode_step", 5),
    "checking shards": ("inference.dashboards.passes", "Pass._intact", 3),
    "writing a shard": ("inference.dashboards.columns", "ColumnWriter.table", 9),
    "merging": ("inference.dashboards.recording", "ExampleParts.add", 1),
    "explaining": ("features.keyless", "ExplanationFile._add", 50),
    "copying rows": ("psycopg", "Copy.write", 3),
    "swapping": ("features.partitions", "attach", 2),
    "removing shards": ("features.builds", "remove", 1),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_build_that_is_killed_at_any_moment_goes_on(committed, env, moment):
    """The process kills itself; readers go on seeing the old rows, and whoever resumes makes the same."""
    expected, (module, name, calls) = all_rows(committed), MOMENTS[moment]
    shutil.rmtree(Path(env["FACET_BUILDS"]) / "contexts")
    run = queue(committed)
    code = (
        "import importlib, os; from features.builds import run_build\n"
        f"*path, name = {name.split('.')!r}\n"
        f"owner = importlib.import_module({module!r})\n"
        "for part in path: owner = getattr(owner, part)\n"
        f"called, left = getattr(owner, name), {calls}\n"
        "def killed(*args, **options):\n"
        "    global left\n"
        "    done, left = called(*args, **options), left - 1\n"
        "    if not left: os.kill(os.getpid(), 9)\n"
        "    return done\n"
        "setattr(owner, name, killed)\n"
        f"run_build({run})"
    )
    assert in_a_process(code, env).wait() == -signal.SIGKILL
    assert Run.objects.get(pk=run).state == "running"
    assert all_rows(committed) == expected
    assert services.runs.requeue(run=run)
    run_build(run)
    card = selectors.run(run)
    assert (card.state, card.error) == ("done", "")
    assert all_rows(committed) == expected
    assert os.listdir(env["FACET_BUILDS"]) == ["contexts"]


def test_a_build_goes_on_when_valkey_is_killed(committed, env, tmp_path):
    """A Valkey of its own, killed while a worker makes shards and started again without what it knew."""
    expected = all_rows(committed)
    folder = Path(tempfile.mkdtemp(prefix="facet-valkey-"))
    folder.chmod(0o755)
    valkey = lay_out(folder, durable=False).valkey
    valkey.prepare()
    server, worker = valkey.start(), None
    try:
        run = queue(committed)
        worker = start_worker(1, env | {"REDIS_URL": valkey.url}, tmp_path)
        while not Shard.objects.filter(run=run, state=Shard.State.DONE).exists():
            assert Run.objects.get(pk=run).state in Run.ACTIVE
            time.sleep(0.02)
        server.kill()
        server.wait()
        assert all_rows(committed) == expected
        time.sleep(2)
        server = valkey.start()
        end = wait_for_end(run)
        assert (end.state, end.error) == ("done", "")
        assert all_rows(committed) == expected
    finally:
        if worker is not None:
            children.stop(worker, seconds=5)
        children.stop(server, seconds=5)
        shutil.rmtree(folder, ignore_errors=True)


def test_a_shard_that_fails_everywhere_ends_the_run_with_its_text_and_is_made_on_resume(committed, env):
    expected = all_rows(committed)
    run = queue(committed)
    code = (
        f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({TOO_SMALL}, {TOO_SMALL}));"
        f" from features.builds import run_build; run_build({run})"
    )
    assert in_a_process(code, env, stderr=subprocess.DEVNULL).wait() == 0
    card = selectors.run(run)
    assert card.state == "failed"
    assert "failed 3 times" in card.error and "may not become so large" in card.error and card.remedy
    assert all_rows(committed) == expected
    services.runs.resume(run=run)
    run_build(run)
    assert selectors.run(run).state == "done"
    assert all_rows(committed) == expected


def test_a_shard_over_which_workers_die_ends_the_run(committed, env):
    run = queue(committed)
    code = (
        "import os; from inference.dashboards.passes import Pass\n"
        "make = Pass.make\n"
        "Pass.make = lambda self, shard, *others: make(self, shard, *others) if shard else os.kill(os.getpid(), 9)\n"
        f"from features.builds import run_build; run_build({run})"
    )
    for _ in range(services.shards.ATTEMPTS):
        assert in_a_process(code, env).wait() == -signal.SIGKILL
        assert services.runs.requeue(run=run)
    run_build(run)
    card = selectors.run(run)
    assert card.state == "failed" and "The worker was lost." in card.error
    assert not Shard.objects.filter(run=run, number__gt=0).exclude(state=Shard.State.DONE).exists()


def test_of_two_builds_that_begin_together_one_is_refused(committed):
    barrier, found = threading.Barrier(2), []

    def begin():
        barrier.wait()
        try:
            found.append(queue(committed))
        except Conflict as error:
            found.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=begin) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(isinstance(outcome, Conflict) for outcome in found) == [False, True]


def test_processes_that_come_to_one_build_together_make_each_shard_once(committed, env):
    expected = all_rows(committed)
    run = queue(committed)
    code = f"from features.builds import run_build; run_build({run})"
    processes = [in_a_process(code, env | {"OMP_NUM_THREADS": "1"}) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    if selectors.run(run).state != "done":  # whoever came while another read went away again
        run_build(run)
    assert selectors.run(run).state == "done"
    assert all_rows(committed) == expected
    assert os.listdir(env["FACET_BUILDS"]) == ["contexts"]
