"""Files that cannot be imported as they are: what is wrong is said, and what readers see stays as it was."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from features import selectors
from features.imports.lines import BadFile, lines
from features.imports.places import BadArchive, folder_of
from features.models import Dictionary, Run
from inference.errors import FacetError, NotFound, Unavailable
from tests.features.conftest import N_FEATURES, World

SOURCE = Path("tiny/1-res-topk")
ACTIVATIONS = SOURCE / "activations" / "batch-0.jsonl.gz"
EXPLANATIONS = SOURCE / "explanations" / "batch-0.jsonl.gz"
FEATURES = SOURCE / "features" / "batch-0.jsonl.gz"
Import = Callable[..., Run]


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.open(path)]


def write(path: Path, rows: list[Any]) -> None:
    path.write_bytes(gzip.compress(b"".join(json.dumps(row).encode() + b"\n" for row in rows)))


def readable(model: str = "tiny") -> list[Any]:
    """Return what readers see of some features, without what the time of reading changes."""
    dictionary = Dictionary.objects.get(model__slug=model, source="1-res-topk")
    shown = []
    for index in (0, 7, 31):
        card = asdict(selectors.feature_card(model, "1-res-topk", index))
        card.pop("source")
        groups = [asdict(group) for group in selectors.example_groups(dictionary.pk, index, 5)]
        for example in (example for group in groups for example in group["examples"]):
            del example["context"], example["document_url"]
        shown.append((card, groups))
    return shown


def failed(run: Run) -> str:
    assert run.state == "failed"
    return run.error


def log_of(run: Run) -> str:
    return "\n".join(run.lines.values_list("text", flat=True))


def test_a_file_that_ends_in_the_middle_of_a_line(world: World, exported: Path, import_from: Import) -> None:
    """The file and the line are named, nothing of the import is seen, and a resumed run reads that file alone."""
    before = readable()
    whole = gzip.decompress((exported / ACTIVATIONS).read_bytes())
    plain = exported / SOURCE / "activations" / "batch-0.jsonl"
    (exported / ACTIVATIONS).unlink()
    plain.write_bytes(whole[: len(whole) // 2])
    number = whole[: len(whole) // 2].count(b"\n") + 1
    run = import_from(exported)
    assert failed(run) == (
        f"tiny/1-res-topk/activations/batch-0.jsonl, line {number}: the file ends in the middle of the line."
    )
    assert "resume" in run.remedy
    assert readable() == before
    shard = next(Path(folder) for folder in _shards(run) if folder.name == "shard-00000")
    touched = (shard / "shard.json").stat().st_mtime_ns
    plain.write_bytes(whole)
    kept = {}
    monkey = _remember(shard, kept)
    assert import_from(exported, run=run.pk).state == "done"
    assert monkey() == touched
    assert Dictionary.objects.get(model__slug="tiny", source="1-res-topk").stats["imported"]["missing"] == 0


def _shards(run: Run) -> list[Path]:
    from django.conf import settings

    return sorted((Path(settings.FACET_BUILDS) / f"run-{run.pk}").glob("source-*/shard-*"))


def _remember(shard: Path, kept: dict[str, int]) -> Callable[[], int]:
    """Link a shard's manifest aside, so that its time can be read when the run has cleaned up."""
    aside = shard.parent.parent.parent / "manifest"
    aside.hardlink_to(shard / "shard.json")
    return lambda: aside.stat().st_mtime_ns


def test_a_gzip_that_is_cut(world: World, exported: Path, import_from: Import) -> None:
    before = readable()
    data = (exported / ACTIVATIONS).read_bytes()
    (exported / ACTIVATIONS).write_bytes(data[: len(data) // 2])
    assert "activations/batch-0.jsonl.gz, line" in failed(import_from(exported))
    assert readable() == before


def test_a_gzip_that_is_corrupt(world: World, exported: Path, import_from: Import) -> None:
    before = readable()
    data = bytearray((exported / ACTIVATIONS).read_bytes())
    data[len(data) // 2 : len(data) // 2 + 64] = bytes(64)
    (exported / ACTIVATIONS).write_bytes(bytes(data))
    assert "activations/batch-0.jsonl.gz, line" in failed(import_from(exported))
    assert readable() == before


def test_unknown_keys_are_counted_and_listed(world: World, exported: Path, import_from: Import) -> None:
    rows = rows_of(exported / FEATURES)
    write(exported / FEATURES, [row | {"colour": "blue"} for row in rows])
    run = import_from(exported)
    assert run.state == "done"
    assert f"features: colour ({len(rows)})" in log_of(run)


def test_duplicates_are_counted_and_the_first_stays(world: World, exported: Path, import_from: Import) -> None:
    (exported / SOURCE / "facet.json").unlink()
    before = readable()
    features, activations = rows_of(exported / FEATURES), rows_of(exported / ACTIVATIONS)
    changed = features[7] | {"maxActApprox": 999.0}
    changed["facet"]["columns"]["maximum"] = 999.0
    write(exported / FEATURES, [*rows_of(exported / FEATURES), changed])
    write(exported / ACTIVATIONS, activations + activations[:50])
    run = import_from(exported)
    assert run.state == "done", run.error
    assert "activations (50), features (1)" in log_of(run)
    after = readable()
    assert [groups for _, groups in after] == [groups for _, groups in before]
    assert after[1][0]["maximum"] == before[1][0]["maximum"] != 999.0


def test_more_features_than_the_source_says(world: World, exported: Path, import_from: Import) -> None:
    before = readable()
    path = exported / SOURCE / "source.jsonl"
    source = json.loads(path.read_text())
    source["saelensConfig"]["d_sae"] = 24
    path.write_text(json.dumps(source))
    assert "hold feature 95, but its source.jsonl says that it has 24 features" in failed(import_from(exported))
    assert readable() == before


def test_more_features_than_the_dictionary_has(world: World, exported: Path, import_from: Import) -> None:
    (exported / SOURCE / "facet.json").unlink()
    before = readable()
    (exported / SOURCE / "source.jsonl").unlink()
    rows = rows_of(exported / FEATURES)
    write(exported / FEATURES, [*rows, rows[-1] | {"index": "200"}])
    assert "1-res-topk has 96 features, and the files have feature 200" in failed(import_from(exported))
    assert readable() == before


def test_fewer_features_are_imported_and_said(world: World, exported: Path, import_from: Import) -> None:
    (exported / SOURCE / "facet.json").unlink()
    write(exported / FEATURES, rows_of(exported / FEATURES)[:40])
    run = import_from(exported, model="copy")
    assert run.state == "done", run.error
    assert f"40 of {N_FEATURES} features" in log_of(run)
    assert "The files leave 56 features out" in log_of(run)
    with pytest.raises(NotFound) as caught:
        selectors.feature_card("copy", "1-res-topk", 50)
    assert "files" in caught.value.cause
    # Beside features that are there, what is left out has a row without figures.
    page = selectors.feature_page("copy", "1-res-topk", 39, around=12, per_group=5)
    assert [row.index for row in page.rail] == list(range(27, 52))
    assert {row.firing_count for row in page.rail if row.index >= 40} == {0}


def test_a_file_that_is_missing(world: World, exported: Path, import_from: Import) -> None:
    """The manifest counts rows, so a file that was not copied is noticed."""
    before = readable()
    (exported / ACTIVATIONS).unlink()
    assert "hold 0 activations, but its facet.json says" in failed(import_from(exported))
    assert readable() == before


@pytest.mark.parametrize(
    ("path", "change", "says"),
    [
        (FEATURES, {"index": "seven"}, "index is 'seven', not the number of a feature"),
        (FEATURES, {"index": -1}, "index is -1, not the number of a feature"),
        (FEATURES, {"index": 1.5}, "index is 1.5, not a text"),
        (FEATURES, {"maxActApprox": "high"}, 'maxActApprox is "high", not a number'),
        (FEATURES, {"pos_str": [1, 2]}, "pos_str is [1, 2], not a list of strings"),
        (FEATURES, {"pos_values": [1.0]}, "pos_values has 1 entries where 10 are expected"),
        (FEATURES, {"pos_values": [float("nan")] * 10}, "not a list of finite numbers"),
        (FEATURES, {"freq_hist_data_bar_heights": [1]}, "bar_heights has 1 entries where 50 are expected"),
        (ACTIVATIONS, {"tokens": "the"}, "its tokens are not a list of strings"),
        (ACTIVATIONS, {"tokens": [1, 2, 3]}, "its tokens are not a list of strings"),
        (ACTIVATIONS, {"tokens": []}, "it has 0 tokens"),
        (ACTIVATIONS, {"values": [1.0, 2.0]}, "tokens and 2 values"),
        (ACTIVATIONS, {"values": None}, "values is null, not a list of finite numbers"),
        (ACTIVATIONS, {"values": ["1"] * 48}, "not a list of finite numbers"),
        (ACTIVATIONS, {"values": [True] * 48}, "not a list of finite numbers"),
        (ACTIVATIONS, {"values": [float("nan")] * 48}, "not a list of finite numbers"),
        (ACTIVATIONS, {"binContains": "all"}, 'binContains is "all", not a number'),
        (EXPLANATIONS, {"description": 7}, "description is 7, not a text"),
    ],
)
def test_wrong_types(
    world: World, exported: Path, import_from: Import, path: Path, change: dict[str, Any], says: str
) -> None:
    rows = rows_of(exported / path)
    rows[3] |= change
    write(exported / path, rows)
    error = failed(import_from(exported))
    assert says in error
    assert f"{path.as_posix()}, line 4: " in error


def test_nothing_to_import(world: World, tmp_path: Path, import_from: Import) -> None:
    (tmp_path / "empty").mkdir()
    assert "Nothing to import lies in" in failed(import_from(tmp_path / "empty"))


def test_a_line_without_end_is_not_read_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("features.imports.lines.MAX_LINE", 1000)
    (tmp_path / "bomb.jsonl.gz").write_bytes(gzip.compress(b"[" * 100_000))
    with pytest.raises(BadFile, match="line 1: the line is longer than 1,000 bytes"):
        list(lines(tmp_path / "bomb.jsonl.gz", "bomb.jsonl.gz"))


# --- archives and addresses ---


def tar_of(path: Path, members: list[tarfile.TarInfo], data: bytes = b"{}") -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for member in members:
            member.size = len(data) if member.isreg() else 0
            tar.addfile(member, io.BytesIO(data))
    return path


def link(name: str, to: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, to
    return info


@pytest.mark.parametrize("name", ["../outside", "/outside", "a/../../outside", "a\\..\\..\\outside", "C:/outside"])
def test_paths_that_lead_out_of_an_archive(tmp_path: Path, name: str) -> None:
    tar = tar_of(tmp_path / "a.tar.gz", [tarfile.TarInfo("ok.jsonl"), tarfile.TarInfo(name)])
    packed = tmp_path / "a.zip"
    with zipfile.ZipFile(packed, "w") as opened:
        opened.writestr("ok.jsonl", "{}")
        opened.writestr(zipfile.ZipInfo(name), "{}")
    for archive in (tar, packed):
        with pytest.raises(BadArchive, match="leads out"):
            folder_of(str(archive), tmp_path / "work" / "deep", lambda done, total: None)
    assert not list(tmp_path.rglob("outside"))


@pytest.mark.parametrize("member", [link("a", "/etc/passwd"), link("a", "../b")])
def test_links_in_an_archive(tmp_path: Path, member: tarfile.TarInfo) -> None:
    archive = tar_of(tmp_path / "a.tar.gz", [member])
    with pytest.raises(BadArchive, match="a link"):
        folder_of(str(archive), tmp_path / "work", lambda done, total: None)


def test_an_archive_that_unpacks_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("features.imports.places._MOST_TIMES", 2)
    archive = tar_of(tmp_path / "a.tar.gz", [tarfile.TarInfo("zeros")], bytes(4 << 20))
    with pytest.raises(BadArchive, match="unpacks to more than"):
        folder_of(str(archive), tmp_path / "work", lambda done, total: None)


def test_an_archive_that_is_cut(tmp_path: Path, world: World, exported: Path) -> None:
    whole = tmp_path / "whole.tar.gz"
    with tarfile.open(whole, "w:gz") as tar:
        tar.add(exported, "export")
    (tmp_path / "cut.tar.gz").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(BadArchive, match="cannot be unpacked"):
        folder_of(str(tmp_path / "cut.tar.gz"), tmp_path / "work", lambda done, total: None)
    assert not (tmp_path / "work" / "unpacked").exists()


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_archives_are_imported(world: World, exported: Path, tmp_path: Path, import_from: Import, kind: str) -> None:
    archive = tmp_path / f"export.{kind}"
    if kind == "tar":
        with tarfile.open(archive, "w") as tar:
            tar.add(exported, "export")
    else:
        with zipfile.ZipFile(archive, "w") as opened:
            for path in exported.rglob("*"):
                opened.write(path, path.relative_to(exported))
    run = import_from(archive, model="copy")
    assert run.state == "done", run.error
    assert selectors.feature_card("copy", "1-res-topk", 3).maximum > 0


def test_a_url_without_a_network_fails_at_once(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot be reached"):
        folder_of("http://127.0.0.1:9/export.tar", tmp_path, lambda done, total: None)


def test_a_place_that_is_not_there(db: None) -> None:
    from features import services

    with pytest.raises(FacetError, match="There is nothing at"):
        services.imports.create_import(place="nowhere/at/all")
