"""Start everything, keep it running, stop all of it: the process behind `make demo` and `make up`."""

import os
import shutil
import signal
import socket
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from urllib.error import URLError
from urllib.request import urlopen

from rich.console import Console

from explorer.local import addresses, children, ports, remains
from explorer.local.layout import CHECKOUT, lay_out
from explorer.local.problems import LocalProblem
from explorer.local.progress import RunsDisplay
from explorer.local.services import Service, facet_services, postgres_service, valkey_service

NEEDED_BYTES = 1024**3
TICK_SECONDS = 0.1
PREPARE_TRIES = 3
# The exit status of `explorer.local.prepare` where Postgres went away meanwhile.
TRY_AGAIN = 75
WEB_SECONDS = 60
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Stopped(Exception):
    """The user asked to stop."""


@dataclass(slots=True, kw_only=True)
class Options:
    """What the environment says about this start. Empty URLs mean: embedded servers."""

    local: Path
    host: str
    port: int
    port_is_named: bool
    database_url: str
    redis_url: str
    allowed_hosts: str
    demo: bool


@dataclass(slots=True, kw_only=True)
class Supervisor:
    """All processes of Facet on this machine."""

    options: Options
    console: Console
    services: list[Service] = field(default_factory=list)
    display: RunsDisplay | None = None

    def run(self) -> None:
        """Start everything and stay until a signal; stop what was started, whatever happens."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _stop_asked)
        with remains.sole_supervisor(self.options.local):
            try:
                self._start()
                self._watch()
            except Stopped:
                self.console.print("\nStopping.")
            finally:
                if self.display:
                    self.display.close()
                self._stop()

    def _start(self) -> None:
        options = self.options
        for name in remains.end_leftovers(options.local):
            self.console.print(f"Ended {name}, left over from a run that was killed.")
        port = ports.choose(options.host, options.port, named=options.port_is_named)
        env = self._start_servers()
        if port != options.port:
            self.console.print(f"Port {options.port} is taken: using {port} (FACET_PORT names another).")
        self.console.print("Bringing the database up to date.")
        self._prepare(env)
        started = facet_services(host=options.host, port=port, env=env, logs=options.local / "logs")
        for service in started:
            self._begin(service)
        shown = "localhost" if options.host in (*LOOPBACK, "0.0.0.0", "::") else options.host
        url = f"http://{shown}:{port}"
        self._await_web(url, started[0])
        self.console.print(f"\nFacet is at {url}   (Ctrl-C stops it; logs: {options.local / 'logs'})\n", style="bold")
        self.display = RunsDisplay(url=url, console=self.console)

    def _start_servers(self) -> dict[str, str]:
        """Start the embedded servers that no URL replaces; return the environment of Facet's processes."""
        options = self.options
        database_url, redis_url = options.database_url, options.redis_url
        if not (database_url and redis_url):
            layout = lay_out(options.local)
            for remark in layout.remarks:
                self.console.print(remark)
            for folder in {options.local, layout.postgres.data.parent}:
                check_room(folder)
            if not database_url:
                database_url = layout.postgres.url
                self._begin(postgres_service(layout.postgres))
            if not redis_url:
                redis_url = layout.valkey.url
                self._begin(valkey_service(layout.valkey))
        addresses.record(options.local, addresses.Addresses(database_url=database_url, redis_url=redis_url))
        return {
            **os.environ,
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "FACET_LOCAL": str(options.local),
            "FACET_STATIC": "collected",
            "FACET_ALLOWED_HOSTS": options.allowed_hosts or ",".join(allowed_hosts(options.host)),
            "PYTHONUNBUFFERED": "1",
            "TQDM_DISABLE": "1",  # bars of libraries, in the middle of our own
        }

    def _prepare(self, env: dict[str, str]) -> None:
        """Bring the database up to date, looking after the servers meanwhile; try again where Postgres went away."""
        command = [sys.executable, "-m", "explorer.local.prepare", *(["--demo"] if self.options.demo else [])]
        for _ in range(PREPARE_TRIES):
            child = children.spawn(command, log=None, cwd=CHECKOUT, env=env)
            try:
                while child.poll() is None:
                    self._look_after()
                    time.sleep(TICK_SECONDS)
            finally:
                children.stop(child)
            if child.returncode == 0:
                return
            if child.returncode != TRY_AGAIN:
                break
        raise LocalProblem("The database could not be brought up to date.", "See the message above.")

    def _begin(self, service: Service) -> None:
        service.start()
        self.services.append(service)
        self._remember()

    def _await_web(self, url: str, web: Service) -> None:
        deadline = time.monotonic() + WEB_SECONDS
        while not answers(url):
            died = web.child is None or web.child.poll() is not None
            if died or time.monotonic() > deadline:
                raise LocalProblem(f"The web process does not start: {children.tail(web.log)}", f"See {web.log}.")
            time.sleep(0.1)

    def _watch(self) -> None:
        """Look after every service and show the runs, until a signal ends it."""
        while True:
            self._look_after()
            if self.display:
                self.display.refresh()
            time.sleep(TICK_SECONDS)

    def _look_after(self) -> None:
        for service in self.services:
            if news := service.look_after():
                self.console.print(f"{time.strftime('%H:%M:%S')} {news}")
                self._remember()

    def _remember(self) -> None:
        pids = {service.name: service.child.pid for service in self.services if service.child}
        remains.remember(self.options.local, pids)

    def _stop(self) -> None:
        """Stop everything, last started first; a second signal kills what is still there."""

        def kill(_number: int, _frame: FrameType | None) -> None:
            for service in self.services:
                if service.child is not None and service.name != "postgres":
                    service.child.kill()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, kill)
        # Ask all of Facet's own processes first, so that they end side by side.
        for service in self.services:
            if service.child is not None and service.name not in ("postgres", "valkey"):
                service.child.terminate()
        for service in reversed(self.services):
            service.stop()
        self._remember()


def allowed_hosts(host: str) -> list[str]:
    """Return the names under which the pages may be asked for: those of this machine where others can reach it."""
    names = ["localhost", "127.0.0.1", "[::1]"]
    if host not in LOOPBACK:
        names += [host, socket.gethostname(), socket.getfqdn()]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                # Choosing a route sends nothing; the address is one of those set aside for documentation.
                probe.connect(("192.0.2.1", 9))
                names.append(probe.getsockname()[0])
            except OSError:
                pass
    return list(dict.fromkeys(names))


def answers(url: str) -> bool:
    """Say whether the web process answers, with whatever status."""
    try:
        urlopen(url, timeout=10).close()
    except URLError as error:
        return hasattr(error, "code")
    except OSError:
        return False
    return True


def check_room(folder: Path) -> None:
    """Refuse to start on a disk that is nearly full: Postgres would stop in the middle of the work."""
    free = shutil.disk_usage(folder).free
    if free < NEEDED_BYTES:
        raise LocalProblem(
            f"Only {free // 1024**2} MB are free at {folder}; the demonstration needs {NEEDED_BYTES // 1024**2} MB.",
            "Make room there, or keep the data elsewhere: FACET_LOCAL=/another/folder make demo",
        )


def _stop_asked(_number: int, _frame: FrameType | None) -> None:
    raise Stopped
