"""Files that several processes read at once give the same as files read one by one."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from features.imports import readers
from features.imports.finding import find_sources
from features.imports.lines import BadFile
from inference.errors import FacetError
from tests.features.conftest import World

KIND = Path("tiny/1-res-topk/activations")


@pytest.fixture
def two_files(world: World, exported: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Cut the activations in two files, large enough for a process each."""
    monkeypatch.setattr(readers, "SMALL_BYTES", 0)
    data = gzip.decompress((exported / KIND / "batch-0.jsonl.gz").read_bytes()).splitlines(keepends=True)
    for number, lines in enumerate((data[:1000], data[1000:])):
        (exported / KIND / f"batch-{number}.jsonl.gz").write_bytes(gzip.compress(b"".join(lines)))
    return exported


def test_shards_are_the_same(two_files: Path, tmp_path: Path) -> None:
    files = find_sources(two_files)[0].files
    told: list[int] = []
    alone = readers.read_all(files, tmp_path / "alone", n_processes=1)
    together = readers.read_all(files, tmp_path / "together", n_processes=2, tell=told.append)
    assert [shard.digest for shard in together] == [shard.digest for shard in alone]
    assert told[-1] == sum(file.path.stat().st_size for file in files)


def test_an_error_comes_from_its_process(two_files: Path, tmp_path: Path) -> None:
    bad = two_files / KIND / "batch-1.jsonl.gz"
    bad.write_bytes(bad.read_bytes()[:2000])
    with pytest.raises(FacetError) as caught:
        readers.read_all(find_sources(two_files)[0].files, tmp_path / "shards", n_processes=2)
    assert caught.value.code == BadFile.code
    assert "activations/batch-1.jsonl.gz, line" in caught.value.cause
