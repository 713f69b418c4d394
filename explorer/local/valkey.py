"""An embedded Valkey on a Unix socket: the broker, the live streams and nothing that must last for ever."""

import contextlib
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import redis

from explorer.local import binaries, children
from explorer.local.problems import LocalProblem

START_SECONDS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Valkey:
    """A Valkey whose data is in `data` and whose socket is `socket`."""

    data: Path
    socket: Path
    log: Path
    durable: bool = True

    @property
    def url(self) -> str:
        return f"unix://{self.socket}?db=0"

    def command(self) -> list[str]:
        """Return the command line of the server: no port, a socket for this account only."""
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.data),
            "daemonize": "no",
            "save": "",
            # Queued work outlives a stop; an append-only file loses at most a second when the machine dies.
            "appendonly": "yes" if self.durable else "no",
            "maxmemory-policy": "noeviction",
        }
        return [
            str(binaries.valkey_server()),
            *(part for name, value in options.items() for part in (f"--{name}", value)),
        ]

    def prepare(self) -> None:
        """Make the folders, and stop a server that a killed run left on our socket."""
        self.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.socket.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        deadline = time.monotonic() + 10
        while self.answers():
            if time.monotonic() > deadline:
                raise LocalProblem(
                    f"A Valkey from an earlier run holds {self.socket} and does not stop.",
                    "End the process `valkey-server` of that socket and start again.",
                )
            with contextlib.suppress(redis.RedisError), self._client() as client:
                client.shutdown()
            time.sleep(0.1)
        self.socket.unlink(missing_ok=True)

    def start(self) -> subprocess.Popen[bytes]:
        """Start the server and return once it answers."""
        child = children.spawn(self.command(), log=self.log, cwd=self.data)
        try:
            self.wait(child)
        except BaseException:
            self.stop(child)
            raise
        return child

    def wait(self, child: subprocess.Popen[bytes]) -> None:
        """Wait until the server answers."""
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            if child.poll() is not None or time.monotonic() > deadline:
                raise LocalProblem(
                    f"The embedded Valkey does not start: {children.tail(self.log)}",
                    f"See {self.log}, or set REDIS_URL to a server of your own.",
                )
            time.sleep(0.02)

    def answers(self) -> bool:
        """Say whether the server answers."""
        with self._client() as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

    def stop(self, child: subprocess.Popen[bytes]) -> None:
        """Stop the server; with `durable` it has written what it holds."""
        children.stop(child)

    @contextlib.contextmanager
    def running(self) -> Iterator[str]:
        """Hold the server for the length of a block; the value is its URL."""
        self.prepare()
        child = self.start()
        try:
            yield self.url
        finally:
            self.stop(child)

    def _client(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self.socket), socket_timeout=2, socket_connect_timeout=2)
