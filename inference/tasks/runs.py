"""Runs that lost their worker: nobody holds them, so they are queued again and go on from their finished shards."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from django.db import Error, close_old_connections
from kombu.exceptions import OperationalError

from features import services
from features.holds import holding_run
from features.jobs import Crew
from features.models import Run, Shard
from inference import streams
from inference.tasks import process

RESCUE_SECONDS = 10.0
IDLE_LOOKS = 2
INVITED_SECONDS = 0.5

log = logging.getLogger(__name__)
_busy = threading.Event()


@contextmanager
def working() -> Iterator[None]:
    """Mark this process as busy with a run."""
    _busy.set()
    try:
        yield
    finally:
        _busy.clear()


def rescue_forever() -> None:
    """Look for lost runs again and again.

    While this process has been idle for two looks, runs that wait have lost their message (with Valkey, or before it
    was sent) and are sent too; so are those that wait when the process starts.
    """
    pause = threading.Event()
    idle = IDLE_LOOKS
    while True:
        look = send_waiting_runs if idle >= IDLE_LOOKS else rescue_lost_runs
        try:
            for run_id in look():
                log.warning("Run %s was queued again.", run_id)
            idle = 0 if _busy.is_set() or idle >= IDLE_LOOKS else idle + 1
        except (Error, psycopg.Error, OperationalError) as error:
            log.warning("Lost runs could not be looked for: %s", error)
        finally:
            close_old_connections()
        pause.wait(RESCUE_SECONDS)


def crew_of(run_id: int) -> Crew:
    """Return this worker, and how it asks others to share a run."""

    def workers() -> list[str]:
        return list(streams.living_workers(process.valkey(), "batch"))

    def invite(count: int) -> None:
        # A moment later, so that it is not this process that takes its own invitation first.
        for _ in range(count):
            _send(run_id, countdown=INVITED_SECONDS)

    return Crew(name=process.name(), workers=workers, invite=invite)


def send_waiting_runs() -> list[int]:
    """Send every run that waits, was lost, or has shards to give, and return their ids.

    Sending twice does no harm: a run that is not shared is carried out once, and a shard is made once.
    """
    waiting = Run.objects.filter(state=Run.State.QUEUED)
    waiting |= Run.objects.filter(state=Run.State.RUNNING, shards__state=Shard.State.WAITING)
    waiting = list(waiting.order_by("id").values_list("id", flat=True).distinct())
    for run_id in waiting:
        _send(run_id)
    return waiting + rescue_lost_runs()


def rescue_lost_runs() -> list[int]:
    """Queue and send the runs that are marked as running and that no living process holds; return their ids."""
    rescued = []
    for run_id in Run.objects.filter(state=Run.State.RUNNING).order_by("id").values_list("id", flat=True):
        with holding_run(run_id) as lost:
            if lost and services.runs.requeue(run=run_id):
                rescued.append(run_id)
    for run_id in rescued:
        _send(run_id)
    return rescued


def _send(run_id: int, countdown: float | None = None) -> None:
    from inference.tasks import run

    run.apply_async(args=[run_id], queue="batch", countdown=countdown)
