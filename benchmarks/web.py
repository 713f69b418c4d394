"""Pages over HTTP: a web process of its own on the database of the settings, asked one page after the other.

What is timed is the whole answer over one kept connection on the same machine, compressed as browsers ask for it, and
within it the server's own time, which it says in the header Server-Timing. Beside them stands the processor time that
the web process and Postgres spent, which other work on the machine stretches less: without any, a page takes about as
long.

A deployment is measured as it is after some use: as many other addresses of the same kind are asked for first, so that
Postgres has opened its partitions and read the upper pages of indexes, as it has not just after it was started. They
and those that are measured are drawn alike, one by one. The times of the first answers are kept as a detail.
"""

from __future__ import annotations

import gzip
import http.client
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import Result
from benchmarks.synthetic import Deployment

_SERVER = re.compile(r"app;dur=([\d.]+)")
START_SECONDS = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Milliseconds of the answers to some addresses; sizes in bytes, `median_size` as sent, `largest` of those.

    `server` has the same shares of the server's own time, from the request in its thread to the compressed answer, and
    `first` those of the answers that were asked for before.
    `cpu` and `postgres_cpu` are milliseconds of processor time an answer, of the web process and of its sessions in
    Postgres; the latter is None where Postgres runs elsewhere.
    """

    p50: float
    p95: float
    p99: float
    server: tuple[float, float, float]
    first: tuple[float, float, float]
    cpu: float
    postgres_cpu: float | None
    median_size: int
    largest: int
    plain_size: int
    n: int


def results(
    timings: Mapping[str, Timings],
    paths: Mapping[str, Sequence[str]],
    deployment: Deployment,
    *,
    aim: float,
    over: str,
    whole: bool,
) -> list[Result]:
    """Return the p95 of the server's time of each kind of page, with the rest in its details.

    `aim` is in milliseconds `over` something; it is only judged of a deployment that is `whole`.
    """
    return [
        Result(
            name=f"{name}_p95",
            value=timed.server[1],
            unit="ms of the server",
            aim=f"below {aim:.0f} {over}",
            holds=timed.server[1] < aim if whole else None,
            peer="",
            peer_value=None,
            n=timed.n,
            details=deployment.details()
            | {
                "server_p50_p95_p99": timed.server,
                "first_answers_p50_p95_p99": timed.first,
                "over_http_p50_p95_p99": (timed.p50, timed.p95, timed.p99),
                "cpu_of_the_web_process": timed.cpu,
                "cpu_of_postgres": timed.postgres_cpu,
                "queries": sorted({queries_of(path) for path in paths[name][:8]}),
                "bytes_sent": timed.median_size,
                "bytes_before_compression": timed.plain_size,
            },
        )
        for name, timed in timings.items()
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running web process."""

    port: int
    pid: int

    def measure(self, paths: Sequence[str], *, before: Sequence[str]) -> Timings:
        """Ask for the paths `before`, then for each; raise RuntimeError for an answer that is no page."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        first = sorted(_get(connection, path)[1] for path in before)
        milliseconds, server, sizes, plain = [], [], [], []
        sessions = _sessions()
        before, postgres_before = _cpu(self.pid), sum(map(_cpu, sessions))
        for path in paths:
            started = time.perf_counter()
            body, own = _get(connection, path)
            milliseconds.append(1000 * (time.perf_counter() - started))
            server.append(own)
            sizes.append(len(body))
            plain.append(len(gzip.decompress(body)))
        spent = _cpu(self.pid) - before
        postgres_spent = sum(map(_cpu, sessions)) - postgres_before if sessions else None
        connection.close()
        milliseconds.sort()
        server.sort()
        sizes.sort()
        return Timings(
            p50=_share(milliseconds, 0.5),
            p95=_share(milliseconds, 0.95),
            p99=_share(milliseconds, 0.99),
            server=(_share(server, 0.5), _share(server, 0.95), _share(server, 0.99)),
            first=(_share(first, 0.5), _share(first, 0.95), _share(first, 0.99)),
            cpu=round(1000 * spent / len(paths), 2),
            postgres_cpu=None if postgres_spent is None else round(1000 * postgres_spent / len(paths), 2),
            median_size=sizes[len(sizes) // 2],
            largest=sizes[-1],
            plain_size=sorted(plain)[len(plain) // 2],
            n=len(paths),
        )


def _cpu(pid: int) -> float:
    """Return the seconds of processor time that a process of this machine has used; 0 for one that is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _sessions() -> list[int]:
    """Return the processes of other sessions in the database, where Postgres runs on this machine."""
    from django.db import connection

    if not connection.settings_dict["HOST"].startswith("/"):
        return []
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return [pid for (pid,) in cursor.fetchall()]


@contextmanager
def serving() -> Iterator[Server]:
    """Start the web process, as `make up` does, and stop it at the end of the block."""
    from explorer.local import children, commands, ports
    from explorer.local.layout import CHECKOUT

    port = ports.free()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "web.log"
        # A line of log for every page would be timed with it.
        env = {**os.environ, "FACET_LOG_LEVEL": "WARNING"}
        child = children.spawn(commands.web(host="127.0.0.1", port=port), log=log, cwd=CHECKOUT, env=env)
        try:
            _wait(child, port, log)
            yield Server(port=port, pid=child.pid)
        finally:
            children.stop(child, seconds=6)


def queries_of(path: str) -> int:
    """Return how many statements a page runs, asked for inside this process."""
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    client = Client(headers={"host": "localhost"})
    client.get(path)
    with CaptureQueriesContext(connection) as queries:
        client.get(path)
    return len(queries)


def _get(connection: http.client.HTTPConnection, path: str) -> tuple[bytes, float]:
    """Return the compressed body of a page, and the milliseconds that the server says it took."""
    connection.request("GET", path, headers={"Accept-Encoding": "gzip"})
    response = connection.getresponse()
    body = response.read()
    if response.status != 200 or response.getheader("Content-Encoding") != "gzip":
        raise RuntimeError(f"{path} answers {response.status}: {body[:200]!r}")
    return body, float(_SERVER.search(response.getheader("Server-Timing", ""))[1])


def _share(ordered: Sequence[float], share: float) -> float:
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2)


def _wait(child: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and child.poll() is None:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/static/css/base.css")
            connection.getresponse().read()
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"The web process does not answer: {log.read_text(errors='replace')[-1000:]}")
