"""A pass that is killed, whose files are damaged, or that meets another: what is finished is kept, nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from inference.dashboards.partials import CheckedFolder, WorkFolderUnusable
from tests.inference.dashboards.conftest import all_arrays

FACTS = {"layout": 1}


def test_killed_half_way_and_resumed_gives_identical_bytes(setting, result, tmp_path):
    work = tmp_path / "work"
    (tmp_path / "setting").mkdir()
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.inference.dashboards.one_pass", str(tmp_path / "setting"), str(work)],
        cwd=Path(__file__).parents[3],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while len(list(work.glob("shards/*/*.columns"))) < 2 and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    resumed = setting.run(work)
    assert 2 <= resumed.measurements["resumed_shards"] < resumed.measurements["shards"]
    expected = all_arrays(result)
    for name, array in all_arrays(resumed).items():
        assert array.tobytes() == expected[name].tobytes(), name


@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty"])
def test_damaged_file_is_found_and_made_again(setting, result, tmp_path, damage):
    setting.run(tmp_path)
    path = sorted(tmp_path.glob("shards/*/*.columns"))[1]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes({"flipped": data, "truncated": data[: len(data) // 2], "empty": b""}[damage])
    again = setting.run(tmp_path)
    assert again.measurements["resumed_shards"] == again.measurements["shards"] - 1
    assert all(array.tobytes() == all_arrays(result)[name].tobytes() for name, array in all_arrays(again).items())


def test_other_parameters_do_not_resume(setting, tmp_path):
    setting.run(tmp_path, n_tokens=2000)
    assert setting.run(tmp_path, n_tokens=2500).measurements["resumed_shards"] == 0
    assert len(list((tmp_path / "shards").iterdir())) == 2


def array_of(folder: CheckedFolder, key: str, array: np.ndarray) -> str:
    return folder.save(key, lambda writer: writer.array("array", array))


def test_full_disk_is_said_and_leaves_nothing(tmp_path, monkeypatch):
    folder = CheckedFolder(tmp_path, FACTS)
    with monkeypatch.context() as patch:
        (tmp_path / "part").symlink_to("/dev/full")
        patch.setattr(folder, "_part", lambda key: tmp_path / "part", raising=True)
        with pytest.raises(WorkFolderUnusable, match="disk is full"):
            array_of(folder, "00003", np.zeros(100_000))
    assert folder.load("00003") is None
    array_of(folder, "00003", np.arange(3))
    np.testing.assert_array_equal(folder.load("00003").array("array"), [0, 1, 2])
    assert not list(tmp_path.rglob("*.part"))


def test_work_folder_that_is_a_file_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkFolderUnusable):
        CheckedFolder(tmp_path / "file", FACTS)


def test_files_of_one_key_are_equally_good(tmp_path):
    folder = CheckedFolder(tmp_path, FACTS)
    first, second = array_of(folder, "1", np.arange(3)), array_of(folder, "1", np.arange(4))
    assert len({first, second, *map(str, tmp_path.rglob("1-*"))}) == 2
    Path(min(first, second)).write_bytes(b"damaged")
    assert folder.load("1") is not None
    assert [str(path) for path in tmp_path.rglob("1-*")] == [max(first, second)]


@pytest.mark.parametrize("place", ["file://{}", "simplecache::file://{}"])
def test_any_address_that_fsspec_knows_holds_a_pass(setting, result, tmp_path, place):
    """`simplecache::file` is no local file system to fsspec: files are put there whole and read by ranges."""
    again = setting.run(place.format(tmp_path / "far"))
    assert list((tmp_path / "far").rglob("*.columns"))
    expected = all_arrays(result)
    assert all(array.tobytes() == expected[name].tobytes() for name, array in all_arrays(again).items())


def test_an_address_that_fsspec_does_not_know_is_said(tmp_path):
    with pytest.raises(WorkFolderUnusable, match="nowhere"):
        CheckedFolder("nowhere://bucket", FACTS)
