"""The command lines of Facet's own processes: the same ones in the demonstration, the tests and the containers."""

import sys
from typing import Literal

Queue = Literal["engine", "batch"]


def web(*, host: str, port: int) -> list[str]:
    """Return the command of the web process. Open streams get three seconds to end when it stops."""
    options = {"host": host, "port": str(port), "lifespan": "off", "timeout-graceful-shutdown": "3"}
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    program = [sys.executable, "-m", "uvicorn", "--factory", "explorer.asgi:served"]
    return [*program, "--no-server-header", *arguments]


def worker(queue: Queue) -> list[str]:
    """Return the command of a worker: a solo pool, since CUDA and forked processes do not mix.

    Django's checks are skipped: they would load every page into a process that serves none.
    """
    return [
        *(sys.executable, "-m", "celery", "-A", "explorer", "--skip-checks"),
        *("worker", "--pool", "solo", "-Q", queue),
        *("-n", f"{queue}@%h", "--without-gossip", "--without-mingle", "--without-heartbeat"),
    ]
