"""Runs and the processes that hold them: a hold ends with its process, so a run that nobody holds is lost."""

from __future__ import annotations

import logging
import threading

import psycopg
from django.db import Error, close_old_connections
from kombu.exceptions import OperationalError

from features import services
from features.holds import holding_run
from features.models import Run

RESCUE_SECONDS = 10.0

log = logging.getLogger(__name__)


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
