"""Holding a run: at most one process works on it, and the hold ends with that process, however it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from django.db import connection

# First key of the advisory locks that runs hold (any constant that nothing else uses).
RUN_LOCKS = 0x0FACE7
_OWN_PARAMETERS = ("dbname", "user", "password", "host", "port", "service", "sslmode", "connect_timeout")


@contextmanager
def holding_run(run_id: int) -> Iterator[bool]:
    """Hold a run while the context lasts, if nobody else does; the value tells.

    The hold is an advisory lock on a connection of its own: Postgres gives it back the moment that this process dies.
    """
    parameters = connection.get_connection_params()
    wanted = {name: parameters[name] for name in _OWN_PARAMETERS if name in parameters}
    with psycopg.connect(**wanted, autocommit=True) as own:
        [held] = own.execute("SELECT pg_try_advisory_lock(%s, %s)", [RUN_LOCKS, run_id]).fetchone()
        yield held
