"""Child processes: they end when told, and when their parent is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from explorer.local import children
from explorer.local.layout import CHECKOUT

PARENT = """
import sys, time
from pathlib import Path
from explorer.local import children
child = children.spawn(["sleep", "60"], log=Path(sys.argv[1]))
print(child.pid, flush=True)
time.sleep(60)
"""


def test_stop_kills_a_child_that_does_not_listen(tmp_path: Path) -> None:
    child = children.spawn(["sh", "-c", "trap '' TERM; echo ready; sleep 60"], log=tmp_path / "log")
    while "ready" not in children.tail(tmp_path / "log"):
        time.sleep(0.01)
    children.stop(child, seconds=0.2)
    assert child.returncode == -signal.SIGKILL


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of their parent's death")
def test_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, tmp_path / "log"], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    os.kill(pid, 0)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 5
    while children.command_of(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert children.command_of(pid) is None


def test_long_log_is_put_aside(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"x" * (children.MAX_LOG_BYTES + 1))
    children.spawn(["echo", "new"], log=log).wait()
    assert log.read_text() == "new\n"
    assert (tmp_path / "log.1").exists()
