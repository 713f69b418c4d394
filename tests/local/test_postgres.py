"""The embedded Postgres, with its real binaries."""

import dataclasses
import os
import subprocess
import time
from pathlib import Path

import psycopg
import pytest

from explorer.local.layout import lay_out
from explorer.local.postgres import Postgres
from explorer.local.problems import LocalProblem


@pytest.fixture
def cluster(local: Path) -> Postgres:
    return dataclasses.replace(lay_out(local).postgres, durable=False)


def write_row(url: str, text: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (text text)")
        connection.execute("INSERT INTO kept VALUES (%s)", [text])


def read_rows(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        return [row[0] for row in connection.execute("SELECT text FROM kept ORDER BY text")]


def test_second_start_keeps_the_data(cluster: Postgres) -> None:
    with cluster.running() as url:
        write_row(url, "first")
    assert not cluster.answers()
    with cluster.running() as url:
        assert read_rows(url) == ["first"]


def test_only_pgvector_beyond_core_is_needed(cluster: Postgres) -> None:
    with cluster.running() as url, psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION vector")
        assert connection.execute("SELECT '[1,2]'::halfvec <-> '[1,4]'").fetchone() == (2.0,)


def test_words_are_english_unless_a_query_says_otherwise(cluster: Postgres) -> None:
    with cluster.running() as url, psycopg.connect(url) as connection:
        assert connection.execute("SELECT to_tsvector('the walks')::text").fetchone() == ("'walk':2",)


def test_start_after_a_kill_recovers_the_data(cluster: Postgres) -> None:
    cluster = dataclasses.replace(cluster, durable=True)
    cluster.prepare()
    child = cluster.start()
    write_row(cluster.url, "before the kill")
    child.kill()
    child.wait()
    assert (cluster.data / "postmaster.pid").exists()
    with cluster.running() as url:
        assert read_rows(url) == ["before the kill"]


def test_server_of_a_killed_run_is_stopped_and_replaced(cluster: Postgres) -> None:
    cluster.prepare()
    left_over = cluster.start()
    write_row(cluster.url, "left over")
    with cluster.running() as url:
        assert left_over.wait(10) == 0
        assert read_rows(url) == ["left over"]


def test_lock_of_a_process_number_that_another_process_has_now_is_removed(cluster: Postgres) -> None:
    with cluster.running() as url:
        write_row(url, "kept")
    other = subprocess.Popen(["sleep", "60"])
    try:
        (cluster.data / "postmaster.pid").write_text(f"{other.pid}\n{cluster.data}\n{int(time.time())}\n5432\n")
        with cluster.running() as url:
            assert read_rows(url) == ["kept"]
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_data_of_another_major_version_is_left_alone(cluster: Postgres) -> None:
    cluster.prepare()
    (cluster.data / "PG_VERSION").write_text("16\n")
    with pytest.raises(LocalProblem, match="written by Postgres 16") as problem:
        cluster.prepare()
    assert "pg_dump" in problem.value.remedy


def test_folder_with_something_else_in_it_is_left_alone(cluster: Postgres) -> None:
    cluster.data.mkdir()
    (cluster.data / "thesis.tex").write_text("irreplaceable")
    with pytest.raises(LocalProblem, match="holds no Postgres data"):
        cluster.prepare()
    assert (cluster.data / "thesis.tex").read_text() == "irreplaceable"


def test_failed_initialisation_leaves_no_half_made_data(cluster: Postgres, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", small], capture_output=True, check=False)
    if mount.returncode != 0:
        pytest.skip("needs the right to mount a small disk")
    try:
        small.chmod(0o755)
        full = dataclasses.replace(cluster, data=small / "postgres")
        for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
            folder.chmod(0o755)
        with pytest.raises(LocalProblem, match="No space left on device"):
            full.prepare()
        assert not full.data.exists()
    finally:
        subprocess.run(["umount", small], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_root_hands_the_data_to_another_account(cluster: Postgres) -> None:
    cluster.prepare()
    assert cluster.account is not None
    assert cluster.data.stat().st_uid == cluster.account.uid != 0
    assert cluster.data.stat().st_mode & 0o777 == 0o700
