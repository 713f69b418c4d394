"""What the supervisor keeps running: each service knows how it starts and stops, and waits longer after each death."""

import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from explorer.local import children, commands
from explorer.local.layout import CHECKOUT
from explorer.local.postgres import Postgres
from explorer.local.problems import LocalProblem
from explorer.local.valkey import Valkey

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
# A child that lived this long is healthy again: its next death starts with the first pause.
HEALTHY_SECONDS = 60.0


@dataclass(slots=True, kw_only=True)
class Service:
    """A child process that is started again when it dies."""

    name: str
    log: Path
    start_child: Callable[[], subprocess.Popen[bytes]]
    stop_child: Callable[[subprocess.Popen[bytes]], None]
    child: subprocess.Popen[bytes] | None = None
    deaths: int = 0
    started: float = field(default=0.0)
    due: float = field(default=0.0)

    def start(self) -> None:
        """Start the child now."""
        self.child = self.start_child()
        self.started = time.monotonic()

    def stop(self) -> None:
        """Stop the child if it runs."""
        if self.child is not None:
            self.stop_child(self.child)
            self.child = None

    def look_after(self) -> str | None:
        """Notice a death, or start again when that is due; return what a user should hear."""
        now = time.monotonic()
        if self.child is not None:
            code = self.child.poll()
            if code is None:
                return None
            self.deaths = 1 if now - self.started > HEALTHY_SECONDS else self.deaths + 1
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (self.deaths - 1))
            self.child, self.due = None, now + pause
            return f"{self.name} ended ({describe(code)}) and starts again in {pause:.0f} s. Its log: {self.log}"
        if now < self.due:
            return None
        try:
            self.start()
        except LocalProblem as problem:
            self.deaths += 1
            self.due = now + min(LONGEST_PAUSE, FIRST_PAUSE * 2**self.deaths)
            return f"{problem.cause} {problem.remedy}"
        return f"{self.name} is started again."


def describe(code: int) -> str:
    """Say how a process ended."""
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


def postgres_service(postgres: Postgres) -> Service:
    """Return the service of an embedded Postgres."""

    def start() -> subprocess.Popen[bytes]:
        postgres.prepare()
        return postgres.start()

    return Service(name="postgres", log=postgres.log, start_child=start, stop_child=postgres.stop)


def valkey_service(valkey: Valkey) -> Service:
    """Return the service of an embedded Valkey."""

    def start() -> subprocess.Popen[bytes]:
        valkey.prepare()
        return valkey.start()

    return Service(name="valkey", log=valkey.log, start_child=start, stop_child=valkey.stop)


def facet_services(*, host: str, port: int, env: Mapping[str, str], logs: Path) -> list[Service]:
    """Return the web process and the two workers."""
    lines = {
        "web": commands.web(host=host, port=port),
        "engine worker": commands.worker("engine"),
        "batch worker": commands.worker("batch"),
    }
    return [_plain(name, line, env=env, log=logs / f"{name.split()[0]}.log") for name, line in lines.items()]


def _plain(name: str, command: list[str], *, env: Mapping[str, str], log: Path) -> Service:
    return Service(
        name=name,
        log=log,
        start_child=lambda: children.spawn(command, log=log, cwd=CHECKOUT, env=env),
        stop_child=lambda child: children.stop(child, seconds=6),
    )
