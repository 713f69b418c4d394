"""Send a request to a worker, wait for its answer, cancel it."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import redis
from asgiref.sync import async_to_sync
from django.conf import settings
from django.db import connections
from kombu.exceptions import OperationalError

from explorer.celery import app
from explorer.live.errors import Cancelled, EngineBusy, JobUnknown, ValkeyGone
from explorer.live.events import follow
from explorer.live_values import EngineStatus
from inference import streams
from inference.errors import FacetError

QUEUE_SECONDS = 180
STALE_SECONDS = 600
_JOB = re.compile(r"[0-9a-f]{32}")
SEND_POLICY = {"max_retries": 2, "interval_start": 0.1, "interval_step": 0.3, "interval_max": 0.5}


@lru_cache(maxsize=4)
def _client(url: str) -> redis.Redis:
    return streams.connect(url, retries=1)


@contextmanager
def valkey() -> Iterator[redis.Redis]:
    """Give the client of this process; a server that does not answer becomes a ValkeyGone."""
    try:
        yield _client(settings.REDIS_URL)
    except (*streams.GONE, OperationalError) as error:
        raise ValkeyGone from error


def submit(task: str, payload: dict[str, Any], *, queue: str = "engine") -> str:
    """Send a request to `inference.tasks.{task}` and return its job id.

    Raises:
        EngineBusy: where settings.FACET_LIVE_QUEUE requests wait already.
        ValkeyGone: where it cannot be sent.
    """
    job = uuid.uuid4().hex
    now = time.time()
    waiting = streams.waiting_key(queue)
    with valkey() as client:
        pipeline = client.pipeline(transaction=False)
        pipeline.zremrangebyscore(waiting, 0, now - STALE_SECONDS)
        pipeline.zcard(waiting)
        _, n_waiting = pipeline.execute()
        if n_waiting >= getattr(settings, "FACET_LIVE_QUEUE", 32):
            raise EngineBusy(n_waiting)
        pipeline = client.pipeline(transaction=False)
        pipeline.zadd(waiting, {job: now})
        pipeline.set(streams.lease_key(job), "1", ex=streams.FIRST_LEASE_SECONDS)
        pipeline.xadd(streams.stream_key(job), streams.entry("submitted", {"task": task}))
        pipeline.expire(streams.stream_key(job), streams.STREAM_SECONDS)
        pipeline.execute()
        try:
            app.send_task(
                f"inference.tasks.{task}",
                args=[job, payload],
                queue=queue,
                expires=QUEUE_SECONDS,
                ignore_result=True,
                retry=True,
                retry_policy=SEND_POLICY,
            )
        except OperationalError:
            client.zrem(waiting, job)
            raise
    return job


def wait(job: str, *, timeout: float = 60.0, queue: str = "engine") -> dict[str, Any]:
    """Return the data of the job's final event.

    Raises:
        FacetError: the one with which the job ended, with its code and status.
        LiveTimeout: after `timeout` seconds; the job is cancelled.
        ValkeyGone: where Valkey stays away.
    """
    release_database()
    return async_to_sync(_last_data)(job, timeout=timeout, queue=queue)


async def _last_data(job: str, *, timeout: float, queue: str) -> dict[str, Any]:
    last = None
    async for event in follow(job, timeout=timeout, queue=queue):
        last = event
    if last is None or not last.is_final:
        raise RuntimeError("A job's stream ended without a final event.")
    if last.name == "error":
        raise FacetError.from_dict(last.data)
    return last.data


def release_database() -> None:
    """Give this thread's connections back to the pool: who waits for something else must not hold one."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()


def cancel(job: str, *, queue: str = "engine") -> None:
    """Ask whoever works on the job to stop; its stream ends with what there is by then.

    Raises:
        JobUnknown: for what is no id of a job; of one whose stream is gone, a worker may still be at it.
    """
    if not _JOB.fullmatch(job):
        raise JobUnknown(job[:64])
    with valkey() as client:
        client.set(streams.cancel_key(job), "1", ex=streams.STREAM_SECONDS)
        if client.zrem(streams.waiting_key(queue), job):
            client.xadd(streams.stream_key(job), streams.entry("error", Cancelled().as_dict()))


def enqueue_run(run_id: int) -> None:
    """Send a stored run to the batch workers."""
    with valkey():
        app.send_task(
            "inference.tasks.run",
            args=[run_id],
            queue="batch",
            ignore_result=True,
            retry=True,
            retry_policy=SEND_POLICY,
        )


def engine_status() -> EngineStatus:
    """Return which workers are alive and how many live requests wait."""
    with valkey() as client:
        engine = streams.living_workers(client, "engine")
        batch = streams.living_workers(client, "batch")
        waiting = client.zcard(streams.waiting_key("engine"))
    return EngineStatus(
        engine=tuple(engine),
        batch=tuple(batch),
        starting=sum(state == "starting" for state in engine.values()),
        waiting=waiting,
    )
