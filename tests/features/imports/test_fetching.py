"""Imports from a web server that this machine runs: folders and archives, cut connections, and what is not there."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from features import selectors
from features.imports.fetching import fetched
from features.models import Run
from inference.errors import NotFound, Unavailable
from tests.features.conftest import World
from tests.features.imports.serving import Server

SOURCE = Path("tiny/1-res-topk")
ACTIVATIONS = "activations/batch-0.jsonl.gz"
Import = Callable[..., Run]


@pytest.fixture
def files(server: Server) -> Path:
    """Make a folder in the export layout with a file that is large enough to be cut."""
    folder = server.root / SOURCE
    for kind in ("features", "activations"):
        (folder / kind).mkdir(parents=True)
        for number in range(3):
            (folder / kind / f"batch-{number}.jsonl.gz").write_bytes(
                bytes(range(256)) * (10 if kind == "features" else 99)
            )
    (folder / "source.jsonl").write_text('{"id": "1-res-topk"}')
    (folder / "paper.pdf").write_bytes(b"not of the layout")
    return folder


def same(there: Path, here: Path) -> bool:
    """Tell whether every file of the layout is here as it is there, and nothing else."""
    wanted = {path.relative_to(there): path.read_bytes() for path in there.rglob("*.jsonl*")}
    return wanted == {path.relative_to(here): path.read_bytes() for path in here.rglob("*") if path.is_file()}


def nothing(done: int, total: int) -> None:
    pass


@pytest.mark.parametrize("shows_folders", [True, False])
def test_a_folder_is_fetched(server: Server, files: Path, tmp_path: Path, shows_folders: bool) -> None:
    """By the pages that show folders, or by the names that files have in the layout."""
    server.shows_folders = shows_folders
    told: list[tuple[int, int]] = []
    for address in (f"{server.url}/{SOURCE}", f"{server.url}/{SOURCE}/"):
        shutil.rmtree(tmp_path / "here", ignore_errors=True)
        (tmp_path / "fetched.json").unlink(missing_ok=True)
        root = fetched(address, tmp_path / "here", lambda *both: told.append(both))
        assert same(files, root / SOURCE)
    assert told[-1][0] == told[-1][1] == sum(path.stat().st_size for path in files.rglob("*.jsonl*"))


def test_a_connection_that_breaks_goes_on_where_it_stopped(server: Server, files: Path, tmp_path: Path) -> None:
    server.cuts = 2
    root = fetched(f"{server.url}/{SOURCE}/", tmp_path / "here", nothing)
    assert same(files, root / SOURCE)
    half = 99 * 256 // 2
    assert server.gets(ACTIVATIONS) == [("", 200), (f"bytes={half}-", 206), (f"bytes={half + half // 2}-", 206)]


def test_a_server_that_knows_no_ranges_is_asked_for_the_whole_file(server: Server, files: Path, tmp_path: Path) -> None:
    server.cuts, server.knows_ranges = 1, False
    assert same(files, fetched(f"{server.url}/{SOURCE}/", tmp_path / "here", nothing) / SOURCE)
    assert [status for _, status in server.gets(ACTIVATIONS)] == [200, 200]


def test_a_file_that_changed_meanwhile_is_not_mixed(server: Server, files: Path, tmp_path: Path) -> None:
    """The rest is asked for only behind the same version of the file."""
    server.lies_by = 1
    with pytest.raises(Unavailable, match="ended after"):
        fetched(f"{server.url}/{SOURCE}/", tmp_path / "here", nothing)
    server.lies_by = 0
    for path in files.rglob("batch-0.jsonl.gz"):
        path.write_bytes(b"another version " * 500)
    assert same(files, fetched(f"{server.url}/{SOURCE}/", tmp_path / "here", nothing) / SOURCE)


def test_a_size_that_is_wrong_is_said(server: Server, files: Path, tmp_path: Path) -> None:
    server.lies_by = 10
    with pytest.raises(Unavailable, match=r"ended after 25,344 of 25,354 bytes") as caught:
        fetched(f"{server.url}/{SOURCE}/", tmp_path / "here", nothing)
    assert "Resume" in caught.value.remedy
    assert not list((tmp_path / "here").rglob("*.gz"))


def test_what_is_there_is_not_fetched_again(server: Server, files: Path, tmp_path: Path) -> None:
    fetched(f"{server.url}/{SOURCE}/", tmp_path / "here", nothing)
    server.asked.clear()
    (files / ACTIVATIONS).write_bytes(b"mended " * 1000)
    assert same(files, fetched(f"{server.url}/{SOURCE}/", tmp_path / "here", nothing) / SOURCE)
    assert server.gets(ACTIVATIONS) == [("", 200)]
    assert {status for _, status in server.gets("batch-1.jsonl.gz")} == {304}


@pytest.mark.parametrize("path", ["nowhere/at/all/", "nowhere.tar.gz", "nowhere"])
def test_what_is_not_there(server: Server, tmp_path: Path, path: str) -> None:
    with pytest.raises(NotFound, match="Nothing to import lies at"):
        fetched(f"{server.url}/{path}", tmp_path / "here", nothing)


def test_links_that_lead_out_of_a_folder_are_not_followed(server: Server, tmp_path: Path) -> None:
    outside = server.root / "secret.jsonl"
    outside.write_text("{}")
    (server.root / "page").mkdir()
    (server.root / "page" / "source.jsonl").write_text("{}")
    links = "".join(
        f'<a href="{to}">x</a>' for to in ("../secret.jsonl", "/secret.jsonl", "..%2Fsecret.jsonl", "source.jsonl")
    )
    (server.root / "page" / "index.html").write_text(links)
    root = fetched(f"{server.url}/page/", tmp_path / "here", nothing)
    assert [path.name for path in root.rglob("*") if path.is_file()] == ["source.jsonl"]
    assert not server.gets("secret.jsonl")


def test_an_import_from_a_url_is_resumed(
    world: World, server: Server, exported: Path, import_from: Import, tmp_path: Path
) -> None:
    """The server ends in the middle of a file; resumed, the run asks for its rest and imports what was exported."""
    shutil.copytree(exported, server.root, dirs_exist_ok=True)
    server.lies_by = 1
    run = import_from(f"{server.url}/{SOURCE}/", model="copy")
    assert (run.state, "ended after" in run.error) == ("failed", True)
    server.lies_by = 0
    run = import_from(server.url, run=run.pk)
    assert run.state == "done", run.error
    assert (
        selectors.feature_card("copy", SOURCE.name, 3).maximum == selectors.feature_card("tiny", SOURCE.name, 3).maximum
    )


def test_an_archive_from_a_url_is_imported(
    world: World, server: Server, exported: Path, import_from: Import, tmp_path: Path
) -> None:
    with tarfile.open(server.root / "export.tar.gz", "w:gz") as tar:
        tar.add(exported, "export")
    server.cuts = 1
    run = import_from(f"{server.url}/export.tar.gz", model="copy")
    assert run.state == "done", run.error
    assert [status for _, status in server.gets("export.tar.gz")] == [200, 206]
    assert selectors.feature_card("copy", SOURCE.name, 3).maximum > 0
