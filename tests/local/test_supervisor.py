"""`python -m explorer.local up` as a user lives with it: start, crash, stop, kill, start again."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from explorer.local import addresses, ports
from explorer.local import supervisor as supervisor_module
from explorer.local.children import command_of
from explorer.local.layout import CHECKOUT
from explorer.local.problems import LocalProblem
from tests.processes import answers

START_SECONDS = 120


@dataclass(slots=True)
class Installation:
    """A `.local` folder and the supervisors that were started on it."""

    local: Path
    port: int
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def output(self) -> Path:
        return self.local / "output.txt"

    def start(self) -> subprocess.Popen[bytes]:
        env = {**os.environ, "FACET_LOCAL": str(self.local), "FACET_PORT": str(self.port), "FACET_THREADS": "1"}
        for name in ("DATABASE_URL", "REDIS_URL"):
            env.pop(name, None)
        with self.output.open("wb") as output:
            supervisor = subprocess.Popen(
                [sys.executable, "-m", "explorer.local", "up"],
                cwd=CHECKOUT,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.started.append(supervisor)
        return supervisor

    def wait_for(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not done():
            assert time.monotonic() < deadline, self.output.read_text()
            assert self.started[-1].poll() is None, self.output.read_text()
            time.sleep(0.05)

    def up(self) -> subprocess.Popen[bytes]:
        supervisor = self.start()
        self.wait_for(lambda: "Facet is at" in self.output.read_text())
        return supervisor

    def children(self) -> dict[str, int]:
        facts = json.loads((self.local / "children.json").read_text())
        return {name: fact["pid"] for name, fact in facts.items()}

    def database(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(addresses.recorded(self.local).database_url, autocommit=True)


@pytest.fixture
def installation(local: Path) -> Iterator[Installation]:
    installation = Installation(local, ports.free())
    yield installation
    for supervisor in installation.started:
        if supervisor.poll() is None:
            supervisor.terminate()
            supervisor.wait(60)


def gone(pids: dict[str, int], *, seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while any(command_of(pid) for pid in pids.values()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(command_of(pid) for pid in pids.values())


def test_a_life(installation: Installation) -> None:
    supervisor = installation.up()
    url = f"http://127.0.0.1:{installation.port}/"
    pids = installation.children()
    assert set(pids) == {"postgres", "valkey", "web", "engine worker", "batch worker"}
    with installation.database() as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS one")

    # A second one on the same folder says why it does not start, and leaves the first alone.
    second = installation.start()
    assert second.wait(60) == 1
    assert f"runs already from this checkout (process {supervisor.pid})" in installation.output.read_text()
    assert "Remedy:" in installation.output.read_text()
    assert answers(url)

    # A process that dies is started again.
    os.kill(pids["web"], signal.SIGKILL)
    deadline = time.monotonic() + START_SECONDS
    while not (installation.children().get("web", pids["web"]) != pids["web"] and answers(url)):
        assert time.monotonic() < deadline
        time.sleep(0.1)

    # Ctrl-C stops all of it.
    pids = installation.children()
    supervisor.send_signal(signal.SIGINT)
    assert supervisor.wait(60) == 0
    assert gone(pids, seconds=0)
    assert ports.is_free("127.0.0.1", installation.port)

    # The next start finds the data; a supervisor that is killed leaves nobody behind.
    supervisor = installation.up()
    pids = installation.children()
    supervisor.kill()
    supervisor.wait()
    if sys.platform == "linux":
        assert gone(pids)

    supervisor = installation.up()
    with installation.database() as connection:
        assert connection.execute("SELECT one FROM kept").fetchone() == (1,)
    supervisor.terminate()
    assert supervisor.wait(60) == 0


def test_full_disk_is_said_with_what_is_needed(local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_module, "NEEDED_BYTES", 1 << 60)
    with pytest.raises(LocalProblem, match="MB are free at") as problem:
        supervisor_module.check_room(local)
    assert "FACET_LOCAL=" in problem.value.remedy


def test_taken_port_is_said_before_anything_starts(installation: Installation) -> None:
    import socket

    with socket.create_server(("127.0.0.1", installation.port)):
        supervisor = installation.start()
        assert supervisor.wait(60) == 1
    said = installation.output.read_text()
    assert f"Port {installation.port} is taken by" in said
    assert "FACET_PORT=" in said
    assert not (installation.local / "postgres").exists()
