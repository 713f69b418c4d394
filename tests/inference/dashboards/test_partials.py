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

from inference.dashboards.partials import PartialStore, PassUnderWay, WorkFolderUnusable
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
    while len(list(work.glob("*/*.npz"))) < 2 and child.poll() is None and time.monotonic() < deadline:
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
    path = sorted(tmp_path.glob("*/*.npz"))[1]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes({"flipped": data, "truncated": data[: len(data) // 2], "empty": b""}[damage])
    again = setting.run(tmp_path)
    assert again.measurements["resumed_shards"] == again.measurements["shards"] - 1
    assert all(array.tobytes() == all_arrays(result)[name].tobytes() for name, array in all_arrays(again).items())


def test_other_parameters_do_not_resume(setting, tmp_path):
    setting.run(tmp_path, n_tokens=2000)
    assert setting.run(tmp_path, n_tokens=2500).measurements["resumed_shards"] == 0
    assert len(list(tmp_path.iterdir())) == 2


def test_second_owner_is_refused(tmp_path):
    with PartialStore(tmp_path, FACTS).owned():
        with pytest.raises(PassUnderWay), PartialStore(tmp_path, FACTS).owned():
            pass
        with PartialStore(tmp_path, {"layout": 2}).owned():
            pass
    with PartialStore(tmp_path, FACTS).owned():
        pass


def test_full_disk_is_said_and_leaves_nothing(tmp_path):
    store = PartialStore(tmp_path, FACTS)
    (store.folder / "00003.part").symlink_to("/dev/full")
    with pytest.raises(WorkFolderUnusable, match="disk is full"):
        store.save(3, {"array": np.zeros(100_000)})
    assert store.load(3) is None
    store.save(3, {"array": np.arange(3)})
    np.testing.assert_array_equal(store.load(3)["array"], [0, 1, 2])


def test_work_folder_that_is_a_file_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkFolderUnusable):
        PartialStore(tmp_path / "file", FACTS)
