"""Signs of life of a run while its connection is busy with a COPY, on a connection of their own."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

import psycopg
from django.db import connection

from inference.dashboards.corpus import Cancelled

EVERY_SECONDS = 2.0
_WANTED = ("dbname", "user", "password", "host", "port", "service", "sslmode", "connect_timeout")
_REPORT = """
UPDATE features_run SET phase = %s, done = %s, total = %s, unit = %s, rate = %s, heartbeat_at = now()
WHERE id = %s RETURNING cancel_requested OR state <> 'running'
"""


class Pulse:
    """Reports the phase of a run now and then; raises Cancelled when the run is to stop."""

    def __init__(self, run_id: int, phase: str, total: int, unit: str) -> None:
        self._run_id, self._phase, self._total, self._unit = run_id, phase, total, unit
        self._began = self._reported = time.monotonic()

    def __enter__(self) -> Self:
        parameters = connection.get_connection_params()
        wanted = {name: parameters[name] for name in _WANTED if name in parameters}
        self._connection = psycopg.connect(**wanted, autocommit=True)
        return self

    def __call__(self, done: int) -> None:
        now = time.monotonic()
        if now - self._reported < EVERY_SECONDS:
            return
        self._reported = now
        values = (self._phase, done, self._total, self._unit, done / (now - self._began), self._run_id)
        try:
            row = self._connection.execute(_REPORT, values).fetchone()
        except psycopg.OperationalError:
            return  # Postgres is away for now; the COPY itself will say so
        if row is not None and row[0]:
            raise Cancelled

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._connection.close()
