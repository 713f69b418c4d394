"""An embedded Postgres: initialise, take over what a killed run left, start, stop.

The server listens on a Unix socket in a folder that only its own account (and root) may enter, so it needs no
password and no port. It runs as a direct child, never through `pg_ctl start`, so that it cannot be orphaned.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg

from explorer.local import addresses, binaries, children
from explorer.local.accounts import Account
from explorer.local.problems import LocalProblem

START_SECONDS = 60
INITDB = ("--auth=trust", "--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C",
          "--text-search-config=english", "--no-instructions")  # fmt: skip
DURABLE = {"shared_buffers": "256MB", "max_wal_size": "2GB"}
# For tests: nothing is kept, so nothing need reach the disk.
FLEETING = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "shared_buffers": "64MB"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Postgres:
    """A database cluster in `data`, its socket in `sockets`, run as `account` (None: as this process)."""

    data: Path
    sockets: Path
    log: Path
    bin: Path
    account: Account | None = None
    durable: bool = True

    @property
    def url(self) -> str:
        return f"postgresql://{addresses.DATABASE}@/{addresses.DATABASE}?host={self.sockets}"

    def command(self) -> list[str]:
        """Return the command line of the server."""
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.sockets),
            "log_timezone": "UTC",
            "timezone": "UTC",
            **(DURABLE if self.durable else FLEETING),
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(self.bin / "postgres"), "-D", str(self.data), *options]

    def prepare(self) -> None:
        """Make the data folder ready: new, or as the last run left it, with no server of a killed run on it."""
        self._own(self.sockets)
        if (self.data / "PG_VERSION").exists():
            self._check_version()
            self._stop_stale_server()
        else:
            self._initialise()

    def start(self) -> subprocess.Popen[bytes]:
        """Start the server and return once it answers and the database exists."""
        child = children.spawn(self.command(), log=self.log, account=self.account, death_signal=signal.SIGINT)
        try:
            self.wait(child)
        except BaseException:
            self.stop(child)
            raise
        return child

    def wait(self, child: subprocess.Popen[bytes]) -> None:
        """Wait until the server answers, then create the database where it is missing."""
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            if child.poll() is not None or time.monotonic() > deadline:
                raise LocalProblem(
                    f"The embedded Postgres does not start: {children.tail(self.log)}",
                    f"See {self.log}, or set DATABASE_URL to a server of your own.",
                )
            time.sleep(0.03)
        with self._connect() as connection:
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [addresses.DATABASE]).fetchone()
            if not known:
                connection.execute(f"CREATE DATABASE {addresses.DATABASE}")

    def answers(self) -> bool:
        """Say whether the server accepts connections."""
        try:
            self._connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self, child: subprocess.Popen[bytes]) -> None:
        """End all sessions, write a checkpoint and stop (Postgres calls it a fast shutdown)."""
        children.stop(child, by=signal.SIGINT, seconds=30)

    @contextlib.contextmanager
    def running(self) -> Iterator[str]:
        """Hold the server for the length of a block; the value is its URL."""
        self.prepare()
        child = self.start()
        try:
            yield self.url
        finally:
            self.stop(child)

    def _connect(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(
            host=str(self.sockets), user=addresses.DATABASE, dbname="postgres", autocommit=True, connect_timeout=3
        )

    def _initialise(self) -> None:
        if self.data.exists() and any(self.data.iterdir()):
            raise LocalProblem(
                f"{self.data} is not empty and holds no Postgres data.", "Move that folder away and start again."
            )
        self._own(self.data)
        options = INITDB if self.durable else (*INITDB, "--no-sync")
        done = self._run("initdb", "-D", str(self.data), "-U", addresses.DATABASE, *options)
        if done.returncode != 0:
            # A half-made folder would pass for data at the next start.
            shutil.rmtree(self.data, ignore_errors=True)
            reason = next((line for line in done.stderr.splitlines() if "error" in line or "FATAL" in line), "")
            raise LocalProblem(
                f"Postgres could not create its data in {self.data}: {reason or done.stderr.strip()[-200:]}",
                "Make room or give permission there, or set DATABASE_URL to a server of your own.",
            )

    def _check_version(self) -> None:
        major = (self.data / "PG_VERSION").read_text().strip()
        if major != str(binaries.POSTGRES_MAJOR):
            raise LocalProblem(
                f"{self.data} was written by Postgres {major}; the installed one is {binaries.POSTGRES_MAJOR}.",
                f"Keep the data with pg_dump of Postgres {major}, or move the folder away and start afresh.",
            )

    def _stop_stale_server(self) -> None:
        """Stop a server that a killed run left on our data, and remove a lock file whose process is not a Postgres.

        Postgres itself clears a lock whose process is gone; it cannot know that a number was given to another process.
        """
        lock = self.data / "postmaster.pid"
        try:
            pid = int(lock.read_text().split("\n", 1)[0])
        except (FileNotFoundError, ValueError):
            return
        command = children.command_of(pid)
        if command is None:
            return
        if "postgres" not in command or str(self.data) not in command:
            lock.unlink(missing_ok=True)
            return
        done = self._run("pg_ctl", "stop", "-D", str(self.data), "-m", "fast", "-w", "-t", "30")
        if done.returncode != 0 and children.command_of(pid) is not None:
            raise LocalProblem(
                f"A Postgres from an earlier run (process {pid}) holds {self.data} and does not stop.",
                f"End it with `kill -INT {pid}` and start again.",
            )

    def _run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.bin / program), *arguments],
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            **(self.account.popen_options() if self.account else {}),
        )

    def _own(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        if self.account:
            os.chown(folder, self.account.uid, self.account.gid)
        folder.chmod(0o700)
