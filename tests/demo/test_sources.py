from pathlib import Path

import pytest

from demo import sources
from demo.sources import SourceFile, list_sources, read, split_of


@pytest.fixture(scope="module")
def listed():
    return list_sources()


def test_order_and_split_are_the_same_every_time(listed):
    assert list_sources("held-out") == [file for file in listed if file.split == "held-out"]


def test_splits_are_disjoint_and_cover_everything(listed):
    names = {split: {file.name for file in listed if file.split == split} for split in ("train", "held-out")}
    assert not names["train"] & names["held-out"]
    assert len(names["train"]) + len(names["held-out"]) == len(listed)
    assert 0.02 < len(names["held-out"]) / len(listed) < 0.06


def test_split_depends_on_the_name_alone(listed):
    assert all(file.split == split_of(file.name) for file in listed)
    # A split that moves would leak held-out text into the next training.
    assert split_of("stdlib/json/decoder.py") == "train"


def test_standard_library_comes_first(listed):
    names = [file.name for file in listed]
    first_package = next(index for index, name in enumerate(names) if not name.startswith("stdlib/"))
    assert first_package > 500
    assert names[first_package].startswith("site/django/")
    assert not any("site-packages" in name for name in names)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"import json\n", "import json\n"),
        (b"# caf\xe9\n", ""),
        (b"table = '" + b"x" * 500 + b"'\n", ""),
        (b"", ""),
    ],
    ids=["code", "latin-1", "one long line", "empty"],
)
def test_reading_leaves_out_what_is_not_text(tmp_path, data, text):
    path = tmp_path / "module.py"
    path.write_bytes(data)
    assert read(SourceFile("stdlib/module.py", path, "train")) == text


def test_missing_file_reads_as_empty():
    assert read(SourceFile("stdlib/gone.py", Path("gone.py"), "train")) == ""


def test_huge_files_and_greedy_packages_are_capped(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "MAX_FILE_BYTES", 100)
    monkeypatch.setattr(sources, "MAX_PACKAGE_BYTES", 250)
    for number in range(10):
        (tmp_path / f"small_{number}.py").write_text("x" * 60)
    (tmp_path / "huge.py").write_text("x" * 101)
    found = list_sources(roots=[("site/package", tmp_path)])
    assert len(found) == 4
    assert "site/package/huge.py" not in {file.name for file in found}
