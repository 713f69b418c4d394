"""Kill -9 in each phase that stores: readers keep what they had, and a resumed run finishes."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from django.db import connection

from explorer.local.layout import CHECKOUT
from features import partitions, selectors, services
from features.jobs import work
from features.models import Dictionary, Feature, Run
from tests.features.conftest import N_FEATURES, World

SOURCE = "1-res-topk"
FEW = 24


@pytest.fixture
def few(transactional_db: None, world: World, exported: Path, tmp_path: Path) -> Path:
    """Copy the files of the first features alone: what readers have before."""
    folder = tmp_path / "few"
    shutil.copytree(exported, folder)
    here = folder / "tiny" / SOURCE
    (here / "facet.json").unlink()
    shutil.rmtree(here / "silent", ignore_errors=True)
    for path in here.rglob("batch-0.jsonl.gz"):
        lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
        kept = [line for line in lines if int(json.loads(line)["index"]) < FEW]
        path.write_bytes(gzip.compress(b"".join(kept)))
    return folder


def seen(dictionary: int) -> tuple[object, ...]:
    """Return what readers see of one feature, and when it was stored."""
    maximum = selectors.feature_card("copy", SOURCE, 7).maximum
    built_at = Dictionary.objects.get(pk=dictionary).built_at
    return maximum, selectors.example_groups(dictionary, 7, 9), built_at, Feature.objects.of(dictionary).count()


@contextmanager
def held(phase: str, dictionary: int) -> Iterator[None]:
    """Make a phase of an import wait in the middle of its work, on a connection of its own."""
    parameters = connection.get_connection_params()
    wanted = {name: parameters[name] for name in ("dbname", "user", "password", "host", "port") if name in parameters}
    with psycopg.connect(**wanted) as other:
        for statement in in_the_way(phase, dictionary):
            other.execute(statement)
        yield


def in_the_way(phase: str, dictionary: int) -> list[str]:
    """Return statements that make a phase wait in the middle of its work."""
    of = {"examples": partitions.examples_of(dictionary), "features": partitions.features_of(dictionary)}
    if phase == "contexts":
        return [
            f"SELECT 1 FROM features_corpus WHERE slug = '{services.imports.corpus_slug('copy', SOURCE)}' FOR UPDATE"
        ]
    if phase == "publish":
        return [f"LOCK TABLE {of['features'].parent} IN ACCESS SHARE MODE"]
    table = of[phase].next_name
    return [f"CREATE TABLE {table} (anything int)", "COMMIT", "BEGIN", f"LOCK TABLE {table} IN ACCESS SHARE MODE"]


def waits(phase: str) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return cursor.fetchone()[0] > 0 and Run.objects.filter(phase=phase, state="running").exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("phase", ["contexts", "examples", "features", "publish"])
def test_a_phase_that_is_killed(
    few: Path, exported: Path, process_env: dict[str, str], settings, tmp_path: Path, phase: str
) -> None:
    settings.FACET_BUILDS = tmp_path / "builds"
    work(services.imports.create_import(place=str(few), model="copy"))
    dictionary = Dictionary.objects.get(model__slug="copy", source=SOURCE).pk
    before = seen(dictionary)
    assert before[-1] == FEW
    with held(phase, dictionary):
        process = subprocess.Popen(
            [sys.executable, "manage.py", "import_features", str(exported), "--model", "copy", "--inline"],
            cwd=CHECKOUT,
            env={**process_env, "FACET_BUILDS": str(tmp_path / "builds")},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait_for(lambda: waits(phase), process)
        finally:
            process.kill()
            process.wait()
    assert seen(dictionary) == before

    run = Run.objects.get(state="running")
    assert services.runs.requeue(run=run.pk)
    work(run.pk)
    run.refresh_from_db()
    assert run.state == "done", run.error
    maximum, groups, _, n_features = seen(dictionary)
    assert (maximum, n_features) == (selectors.feature_card("tiny", SOURCE, 7).maximum, N_FEATURES)
    assert groups


def _wait_for(happened: Callable[[], bool], process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while not happened():
        assert process.poll() is None, "the import was over before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
