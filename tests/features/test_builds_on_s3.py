"""Builds whose partial results lie on S3: a real S3 server on this machine, and the client that fsspec has for it.

Server and client come from an environment of their own (tests/interop/requirements/s3.txt); Facet's processes find the
client behind their own packages.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from explorer.local import children
from features import selectors, services
from features.builds import run_build
from features.models import Run, Shard
from features.queue import enqueue_run
from inference.dashboards.partials import CheckedFolder
from tests.features.test_builds import all_rows
from tests.features.test_shared_builds import built_once, in_a_process, queue, start_worker, wait_for_end
from tests.interop import environments

pytestmark = pytest.mark.packages

BUCKET = "facet-tests"


def client_packages() -> str:
    """Return where the environment keeps its packages."""
    return str(next((environments.FOLDER / "s3" / "lib").glob("python*/site-packages")))


@pytest.fixture(scope="module")
def s3(tmp_path_factory) -> Iterator[dict[str, str]]:
    """An S3 server; yields the environment in which Facet's processes reach it."""
    if reason := environments.missing("s3"):
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("s3")
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    with (folder / "server.log").open("wb") as log:
        command = [environments.python_of("s3"), "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while not answers(port):
            assert server.poll() is None and time.monotonic() < deadline, (folder / "server.log").read_text()
            time.sleep(0.1)
        # Behind Facet's own packages, so that none of these is replaced.
        (folder / "sitecustomize.py").write_text(f"import sys\nsys.path.append({client_packages()!r})\n")
        yield {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "PYTHONPATH": os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")])),
        }
    finally:
        server.terminate()
        server.wait()


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.fixture
def place(s3, settings, monkeypatch, tmp_path) -> str:
    """Where builds of this test keep their partial results, on S3, for this process too."""
    monkeypatch.setattr(sys, "path", [*sys.path, client_packages()])
    for name, value in s3.items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)
    settings.FACET_BUILDS = f"s3://{BUCKET}/{tmp_path.name}"
    return settings.FACET_BUILDS


@pytest.fixture
def env(process_env, place, s3) -> dict[str, str]:
    return process_env | s3 | {"DJANGO_SETTINGS_MODULE": "explorer.settings", "FACET_BUILDS": place}


@pytest.fixture
def committed(parts, transactional_db, place):
    with built_once(parts) as world:
        yield world


def objects(place: str) -> list[str]:
    """Return the partial results that lie at a place."""
    from s3fs import S3FileSystem

    bucket = S3FileSystem(skip_instance_cache=True, use_listings_cache=False)
    return sorted(path for path in bucket.find(place) if path.endswith(".columns"))


def damage(path: str) -> None:
    """Change one byte of an object."""
    from s3fs import S3FileSystem

    bucket = S3FileSystem(skip_instance_cache=True, use_listings_cache=False)
    data = bytearray(bucket.cat_file(path))
    data[len(data) // 2] ^= 1
    bucket.pipe_file(path, bytes(data))


def test_a_corrupt_object_is_detected_and_removed(place):
    folder = CheckedFolder(place, {"a": 1})
    path = folder.save("7", lambda writer: writer.array("numbers", np.arange(1000)))
    assert folder.load("7") is not None
    damage(path)
    assert folder.has("7")
    assert folder.load("7") is None
    assert not folder.has("7")


def test_two_workers_share_a_build_on_s3_and_one_is_killed(committed, env, place, valkey, tmp_path):
    expected = all_rows(committed)
    workers = [start_worker(number, env, tmp_path) for number in (1, 2)]
    try:
        run = queue(committed)
        enqueue_run(run)
        while Shard.objects.filter(run=run).exclude(worker="").values("worker").distinct().count() < 2:
            assert Run.objects.get(pk=run).state in Run.ACTIVE
            time.sleep(0.02)
        assert any(f"run-{run}/" in path for path in objects(place)) or Shard.objects.filter(run=run).exists()
        workers[0].kill()
        workers[0].wait()
        end = wait_for_end(run, seconds=300)
        assert (end.state, end.error) == ("done", "")
        assert all_rows(committed) == expected
        assert not any(f"run-{run}/" in path for path in objects(place)), "what is stored is removed from S3"
    finally:
        for worker in workers:
            children.stop(worker, seconds=5)


def test_a_build_that_is_killed_finds_its_shards_on_s3_and_makes_a_corrupt_one_again(committed, env, place):
    expected = all_rows(committed)
    run = queue(committed)
    code = (
        "import os; import features.jobs; features.jobs.REPORT_SECONDS = 0.0\n"
        "from features import builds; builds.REPORT_SECONDS = 0.0\n"
        "def watch(progress, rate):\n"
        "    if progress.phase == 'reduce': os.kill(os.getpid(), 9)\n"
        f"builds.run_build({run}, watch=watch)"
    )
    assert in_a_process(code, env).wait() == -signal.SIGKILL
    shards = [path for path in objects(place) if f"run-{run}/" in path]
    assert len(shards) >= Shard.objects.filter(run=run).count() > 1
    damage(shards[0])
    assert services.runs.requeue(run=run)
    run_build(run)
    card = selectors.run(run)
    assert (card.state, card.error) == ("done", "")
    assert all_rows(committed) == expected
    assert not Path(place).exists()
