"""Sending runs to the batch workers from where the web's own application is not imported: from commands."""

from __future__ import annotations

from functools import cache

from celery import Celery
from kombu.exceptions import OperationalError

from inference.errors import Unavailable


@cache
def _app() -> Celery:
    app = Celery("facet", set_as_current=False)
    app.config_from_object("django.conf:settings", namespace="CELERY")
    return app


def enqueue_run(run_id: int) -> None:
    """Send a stored run to the batch workers; raise Unavailable where Valkey does not answer.

    Sending twice is harmless: a run that a process holds, or that is over, is left alone.
    """
    try:
        _app().send_task("inference.tasks.run", args=[run_id], queue="batch", ignore_result=True)
    except OperationalError as error:
        raise Unavailable(
            f"Run {run_id} is stored, but Valkey does not answer, so no worker hears of it.",
            "Start Facet, then: python manage.py resume_runs. Or build here with --inline.",
            run=run_id,
        ) from error
