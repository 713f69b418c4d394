"""A worker process: its name, its signs of life, and what it does when it starts."""

from __future__ import annotations

import logging
import threading
from functools import cache
from typing import Any

import redis
from celery import signals
from django.conf import settings
from django.db import close_old_connections

from inference import streams

log = logging.getLogger(__name__)
_heartbeat: streams.Heartbeat | None = None


@cache
def valkey() -> redis.Redis:
    """Return this process's client."""
    return streams.connect(settings.REDIS_URL)


def name() -> str:
    """Return the name under which this process gives signs of life."""
    return _heartbeat.worker if _heartbeat else "unnamed"


@signals.worker_init.connect
def announce(sender: Any, **_: Any) -> None:
    """Begin to give signs of life, and limit torch's threads before anything is computed."""
    global _heartbeat
    queues = set(sender.app.amqp.queues.consume_from)
    _heartbeat = streams.Heartbeat(valkey(), queues, label=sender.hostname)
    _heartbeat.start()
    if settings.FACET_THREADS:
        import torch

        torch.set_num_threads(settings.FACET_THREADS)


@signals.worker_ready.connect
def get_ready(**_: Any) -> None:
    """Load what the first visitor needs, then say that requests are taken; look after lost runs on batch workers."""
    if _heartbeat is None:
        return
    if "engine" in _heartbeat.queues:
        from inference.tasks import warm_up

        try:
            warm_up()
        except Exception:
            # Whatever is wrong with one model must not keep the worker from serving others; requests will say it.
            log.exception("The warm-up failed.")
        finally:
            close_old_connections()
    if "batch" in _heartbeat.queues:
        from inference.tasks.runs import rescue_forever

        threading.Thread(target=rescue_forever, name="facet-rescue", daemon=True).start()
    _heartbeat.ready()


@signals.worker_shutdown.connect
def withdraw(**_: Any) -> None:
    """Say that this worker leaves."""
    if _heartbeat is not None:
        _heartbeat.stop()
