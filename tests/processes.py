"""Facet's real processes for tests: web server and workers on the test database."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from urllib.error import URLError
from urllib.request import urlopen

from explorer.local import children, commands
from explorer.local.layout import CHECKOUT

START_SECONDS = 120


@dataclass(slots=True, kw_only=True)
class Workers:
    """Celery workers of this session, by queue. Tests may kill one and start it again."""

    env: dict[str, str]
    logs: Path
    running: dict[commands.Queue, Popen[bytes]] = field(default_factory=dict)

    def start(self, *queues: commands.Queue) -> None:
        """Start a worker for each queue and wait until each is ready."""
        marks = {}
        for queue in queues:
            log = self.log(queue)
            marks[queue] = log.stat().st_size if log.exists() else 0
            self.running[queue] = children.spawn(commands.worker(queue), log=log, cwd=CHECKOUT, env=self.env)
        for queue, mark in marks.items():
            self._wait(queue, mark)

    def kill(self, queue: commands.Queue) -> None:
        """Kill a worker in a way that it cannot handle, as a crash would."""
        child = self.running.pop(queue)
        child.kill()
        child.wait()

    def stop(self) -> None:
        """Stop every worker."""
        for child in self.running.values():
            children.stop(child, seconds=5)
        self.running.clear()

    def log(self, queue: commands.Queue) -> Path:
        """Return the file that a worker writes to."""
        return self.logs / f"{queue}.log"

    def _wait(self, queue: commands.Queue, mark: int) -> None:
        log = self.log(queue)
        wait_until(
            lambda: b" ready." in log.read_bytes()[mark:], child=self.running[queue], log=log, what=f"{queue} worker"
        )


def start_web(*, env: dict[str, str], log: Path, port: int) -> Popen[bytes]:
    """Start uvicorn and wait until it answers."""
    child = children.spawn(commands.web(host="127.0.0.1", port=port), log=log, cwd=CHECKOUT, env=env)
    # A file, which needs no database: some tests begin while Postgres is away.
    wait_until(lambda: answers(f"http://127.0.0.1:{port}/static/css/base.css"), child=child, log=log, what="web server")
    return child


def answers(url: str) -> bool:
    """Say whether a server answers, with whatever status."""
    try:
        urlopen(url, timeout=5).close()
    except URLError as error:
        return hasattr(error, "code")
    except OSError:
        return False
    return True


def wait_until(ready: Callable[[], bool], *, child: Popen[bytes], log: Path, what: str) -> None:
    """Wait for a child to become ready; fail with the end of its log."""
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        if child.poll() is not None or time.monotonic() > deadline:
            children.stop(child)
            raise AssertionError(f"The {what} did not start:\n{log.read_text(errors='replace')[-4000:]}")
        time.sleep(0.05)
