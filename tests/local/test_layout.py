"""Where the servers live when the usual place cannot be."""

import os
import shutil
from pathlib import Path

import psycopg
import pytest

from explorer.local.layout import lay_out, reachable_binaries


def test_everything_lies_under_local(local: Path) -> None:
    layout = lay_out(local)
    assert layout.remarks == ()
    for path in (layout.postgres.data, layout.postgres.sockets, layout.valkey.data, layout.valkey.socket, layout.logs):
        assert path.is_relative_to(local)


def test_long_path_moves_the_sockets_and_says_so(local: Path) -> None:
    deep = local / ("a" * 60) / ("b" * 60)
    layout = lay_out(deep)
    try:
        assert any("too long" in remark for remark in layout.remarks)
        assert lay_out(deep) == layout
        with layout.postgres.running() as url, psycopg.connect(url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        with layout.valkey.running():
            pass
    finally:
        shutil.rmtree(layout.valkey.socket.parent.parent)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_folder_closed_to_the_account_moves_the_data_and_says_so(local: Path) -> None:
    local.chmod(0o700)
    layout = lay_out(local / "inner")
    home = layout.postgres.data.parent
    try:
        assert not home.is_relative_to(local)
        assert any(str(home) in remark for remark in layout.remarks)
        with layout.postgres.running() as url, psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE TABLE kept ()")
        again = lay_out(local / "inner")
        assert again == layout
        with again.postgres.running() as url, psycopg.connect(url) as connection:
            assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)
    finally:
        shutil.rmtree(home)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_binaries_closed_to_the_account_are_copied(local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from explorer.local import binaries

    package, folder = binaries.postgres_folders()
    closed = local / "closed" / "site-packages"
    shutil.copytree(package / folder.parent.name, closed / package.name / folder.parent.name, symlinks=True)
    shutil.copytree(package.with_name(f"{package.name}.libs"), closed / f"{package.name}.libs", symlinks=True)
    closed.parent.chmod(0o700)
    monkeypatch.setattr(
        binaries, "postgres_folders", lambda: (closed / package.name, closed / folder.relative_to(package.parent))
    )
    account = lay_out(local).postgres.account
    copied = reachable_binaries(account)
    try:
        assert account is not None
        assert not copied.is_relative_to(local)
        assert account.can_run([copied / "initdb", "--version"])
        with lay_out(local).postgres.running() as url, psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION vector")
    finally:
        shutil.rmtree(copied.parent.parent.parent)
