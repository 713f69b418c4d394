"""Runs and the processes that hold them: a hold ends with its process, so a run that nobody holds is lost."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from django.db import Error, close_old_connections, connection
from kombu.exceptions import OperationalError

from features import services
from features.models import Run

# First key of the advisory locks that runs hold (any constant that nothing else uses).
RUN_LOCKS = 0x0FACE7
RESCUE_SECONDS = 10.0
OWN_PARAMETERS = ("dbname", "user", "password", "host", "port", "service", "sslmode", "connect_timeout")

log = logging.getLogger(__name__)


@contextmanager
def holding_run(run_id: int) -> Iterator[bool]:
    """Hold a run while the context lasts, if nobody else does.

    The hold is an advisory lock on a connection of its own: Postgres gives it back the moment that this process dies.
    """
    with _own_connection() as own:
        [held] = own.execute("SELECT pg_try_advisory_lock(%s, %s)", [RUN_LOCKS, run_id]).fetchone()
        yield held


def rescue_forever() -> None:
    """Queue runs again that are marked as running and that no living process holds."""
    pause = threading.Event()
    while True:
        try:
            for run_id in rescue_lost_runs():
                log.warning("Run %s lost its worker and was queued again.", run_id)
        except (Error, psycopg.Error, OperationalError) as error:
            log.warning("Lost runs could not be looked for: %s", error)
        finally:
            close_old_connections()
        pause.wait(RESCUE_SECONDS)


def rescue_lost_runs() -> list[int]:
    """Queue lost runs again and return their ids; they resume from the shards that are finished."""
    from inference.tasks import build

    rescued = []
    for run_id in Run.objects.filter(state=Run.State.RUNNING).values_list("id", flat=True):
        with holding_run(run_id) as lost:
            if lost and services.runs.requeue(run=run_id):
                rescued.append(run_id)
    for run_id in rescued:
        build.delay(run_id)
    return rescued


@contextmanager
def _own_connection() -> Iterator[psycopg.Connection]:
    parameters = connection.get_connection_params()
    wanted = {name: parameters[name] for name in OWN_PARAMETERS if name in parameters}
    with psycopg.connect(**wanted, autocommit=True) as own:
        yield own
