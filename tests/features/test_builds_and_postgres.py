"""Postgres that is killed while a build stores its rows, or whose disk fills up: readers keep what they had."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from explorer.local.layout import CHECKOUT
from tests.features.own_database import layout_of, step


@pytest.fixture
def spec(parts, tmp_path) -> Iterator[Path]:
    """What to build, and a folder for servers of this test alone, which Postgres' account can enter."""
    servers = Path(tempfile.mkdtemp(prefix="facet-own-"))
    servers.chmod(0o755)
    path = tmp_path / "spec.json"
    said = {
        "servers": str(servers),
        "builds": str(tmp_path / "builds"),
        "disk": str(tmp_path / "disk"),
        "model": str(parts.model),
        "dictionaries": {source: str(folder) for source, folder in parts.dictionaries.items()},
        "documents": {document.name: str(document.path) for document in parts.documents},
    }
    path.write_text(json.dumps(said))
    yield path
    shutil.rmtree(servers, ignore_errors=True)


def test_a_postgres_that_crashes_under_a_build_leaves_what_was_there_and_the_build_goes_on(spec):
    layout = layout_of(json.loads(spec.read_text()))
    layout.postgres.prepare()
    with layout.postgres.running():
        before = step("begin", spec)
        assert before["state"] == "done", before
        for moment in ("UPDATE features_shard", "COPY features_example", "ATTACH PARTITION"):
            killed = step("build", spec, KILLED=moment)
            assert "DatabaseAway" in killed["error"], killed
            assert "what is finished is kept" in killed["error"]
            while not layout.postgres.answers():
                time.sleep(0.05)
            resumed = step("resume", spec)
            assert "before" in resumed, resumed
            seen = resumed["before"]
            assert (seen["state"], seen["rows"]) == ("running", before["rows"]), moment
            assert (resumed["state"], resumed["rows"]) == ("done", before["rows"]), moment


def test_a_disk_of_postgres_that_is_full_is_said_and_with_room_the_build_goes_on(spec):
    # A file system of its own needs rights that hold in a namespace; Postgres refuses to run as root, even there.
    mounting = ("unshare", "--user", "--map-root-user", "--mount")
    running = ("unshare", "--user", "--map-user=1000", "--map-group=1000")
    probe = subprocess.run(
        [*mounting, "sh", "-c", f"mount -t tmpfs tmpfs /mnt && {' '.join(running)} true"],
        capture_output=True,
        check=False,
    )
    if probe.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {probe.stderr.decode().strip()}")
    disk = Path(json.loads(spec.read_text())["disk"])
    disk.mkdir()
    build = f'"{sys.executable}" -m tests.features.own_database on-a-small-disk "{spec}"'
    script = f'mount -t tmpfs -o size=64m tmpfs "{disk}" && exec {" ".join(running)} {build}'
    done = subprocess.run([*mounting, "sh", "-c", script], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["begin"]["state"] == "done", said
    assert said["build"]["state"] == "failed", said
    assert "disk of the database is full" in said["build"]["error"]
    assert "resume the run" in said["build"]["remedy"]
    assert said["build"]["rows"] == said["begin"]["rows"]
    assert (said["resume"]["state"], said["resume"]["rows"]) == ("done", said["begin"]["rows"])
