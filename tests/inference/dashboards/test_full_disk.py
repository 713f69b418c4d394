"""A disk that fills up in the middle of a pass: it is said, what is finished stays, and with room the pass goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.inference.dashboards.one_pass import digests

# One after the other in namespaces of their own: a small disk, a pass, what it left, more room, and the pass again.
_ON_A_SMALL_DISK = """
set -e
mount -t tmpfs -o size={small}k tmpfs "$WORK"
$PASS "$ONE" "$WORK" 0
find "$WORK" -name "*.part" | wc -l
mount -o remount,size=1g "$WORK"
$PASS "$OTHER" "$WORK" 0
"""
_WITH_SMALL_FILES = """
set -e
$PASS "$ONE" "$WORK" 0 {small}
find "$WORK" -name "*.part" | wc -l
$PASS "$OTHER" "$WORK" 0
"""


def carried_out(script: str, folder: Path, *prefix: str) -> list:
    (folder / "work").mkdir()
    names = {"ONE": folder / "one", "OTHER": folder / "other", "WORK": folder / "work"}
    lines = [f'{name}="{path}"' for name, path in names.items()]
    lines.append(f'PASS="{sys.executable} -m tests.inference.dashboards.one_pass"')
    command = [*prefix, "bash", "-c", "\n".join([*lines, script])]
    done = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def sizes(setting, tmp_path_factory) -> dict[str, int]:
    """The bytes of a pass's files: the contexts whole, and all of them."""
    work = tmp_path_factory.mktemp("sizes")
    setting.run(work)
    each = {path: path.stat().st_size for path in work.rglob("*.columns")}
    contexts = sum(size for path, size in each.items() if "contexts" in path.parts)
    largest = max(size for path, size in each.items() if "contexts" in path.parts)
    return {"contexts": contexts, "all": sum(each.values()), "largest context": largest}


def test_a_disk_that_is_full_is_said_and_finished_shards_are_used_again(sizes, result, tmp_path):
    isolated = ("unshare", "--user", "--map-root-user", "--mount")
    probe = subprocess.run([*isolated, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False)
    if probe.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {probe.stderr.decode().strip()}")
    half = (sizes["contexts"] + (sizes["all"] - sizes["contexts"]) // 2) // 1024
    failed, parts, again = carried_out(_ON_A_SMALL_DISK.format(small=half), tmp_path, *isolated)
    assert failed["code"] == "work-folder-unusable" and "disk is full" in failed["cause"]
    assert "resume" in failed["remedy"]
    assert parts == 0 and again["resumed"] >= 1
    assert again["digests"] == digests(result)


def test_a_limit_of_files_is_said_and_leaves_nothing(sizes, result, tmp_path):
    # Contexts can be written and the larger files of shards cannot.
    some = sizes["largest context"] + 1000
    failed, parts, again = carried_out(_WITH_SMALL_FILES.format(small=some), tmp_path)
    assert failed["code"] == "work-folder-unusable" and "so large" in failed["cause"]
    assert parts == 0 and again["digests"] == digests(result)
