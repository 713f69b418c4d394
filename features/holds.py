"""Holding a run: who works on it holds a lock that ends with the process, however it ends.

Most runs are one process's; several may share a build. All locks are Postgres's advisory locks, on a connection of
their own: they are given back the moment that the process dies.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from django.db import connection

from features.models import Run

# First key of the advisory locks that runs hold (any constant that nothing else uses).
RUN_LOCKS = 0x0FACE7
# The upper bits of the locks of the parts of a run: 20 bits, then 23 of the run, then 20 of the part.
_PART_LOCKS = 0x0FACE << 43
_CONDUCTING = 0
SHARED = frozenset({Run.Kind.BUILD})
_OWN_PARAMETERS = ("dbname", "user", "password", "host", "port", "service", "sslmode", "connect_timeout")
_RECONNECT_SECONDS = 60.0


@contextmanager
def holding_run(run_id: int) -> Iterator[bool]:
    """Hold a run alone while the context lasts, if nobody else is at it; the value tells."""
    with own_connection() as own:
        [held] = own.execute("SELECT pg_try_advisory_lock(%s, %s)", [RUN_LOCKS, run_id]).fetchone()
        yield held


@contextmanager
def at_work(run_id: int) -> Iterator[bool]:
    """Be at work on a run while the context lasts: alone, or beside others where its kind is shared.

    The value is False where somebody else is at a run that is not shared.
    """
    if not Run.objects.filter(id=run_id, kind__in=SHARED).exists():
        with holding_run(run_id) as held:
            yield held
        return
    with own_connection() as own:
        own.execute("SELECT pg_advisory_lock_shared(%s, %s)", [RUN_LOCKS, run_id])
        yield True


class Parts:
    """The parts of a shared run that this process holds: conducting it, or making one of its shards."""

    def __init__(self, run_id: int) -> None:
        self.run_id = run_id
        self._own = own_connection()

    def __enter__(self) -> Parts:
        return self

    def __exit__(self, *_: object) -> None:
        self._own.close()

    @contextmanager
    def conducting(self) -> Iterator[bool]:
        """Conduct the run while the context lasts, if nobody else does; the value tells."""
        held = self._take(_CONDUCTING)
        try:
            yield held
        finally:
            if held:
                self._give_back(_CONDUCTING)

    def take(self, shard: int) -> bool:
        """Hold a shard, if nobody else does."""
        return self._take(1 + shard)

    def give_back(self, shard: int) -> None:
        """Let go of a shard."""
        self._give_back(1 + shard)

    def others(self) -> int:
        """Return how many other processes are at work on the run."""
        [count] = self._fetch(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND mode = 'ShareLock'"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            " AND classid::bigint = %s AND objid::bigint = %s AND objsubid = 2",
            [RUN_LOCKS, self.run_id],
        )
        return max(0, count - 1)

    def _take(self, part: int) -> bool:
        return bool(self._fetch("SELECT pg_try_advisory_lock(%s)", [self._key(part)])[0])

    def _give_back(self, part: int) -> None:
        # A lock that was lost with its connection is nobody's any more.
        self._fetch("SELECT pg_advisory_unlock(%s)", [self._key(part)])

    def _key(self, part: int) -> int:
        return _PART_LOCKS | (self.run_id & 0x7FFFFF) << 20 | part

    def _fetch(self, query: str, parameters: list[int]) -> tuple:
        """Run a query; connect again where Postgres was away."""
        deadline = time.monotonic() + _RECONNECT_SECONDS
        while True:
            try:
                if self._own.closed:
                    self._own = own_connection()
                row = self._own.execute(query, parameters).fetchone()
            except psycopg.OperationalError:
                self._own.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
            else:
                return row or ()


def own_connection() -> psycopg.Connection:
    """Return a new connection beside Django's, on which every statement is a transaction."""
    parameters = connection.get_connection_params()
    wanted = {name: parameters[name] for name in _OWN_PARAMETERS if name in parameters}
    return psycopg.connect(**wanted, autocommit=True)
