"""The border between the web and the workers in Valkey: keys, the events of a live request, and signs of life.

A live request ("job") has one stream, `facet:live:{job}`, of entries `{"event": ..., "data": json}`. Web readers hold a
lease on the job while they listen; a worker that finds neither lease nor reader stops computing. Every worker renews
its own key every two seconds under a name that no later process reuses, so that a reader can tell a busy worker
from a lost one. This module needs redis-py only: no torch, no Django.

    facet:live:{job}          stream of events, at most STREAM_LENGTH, kept STREAM_SECONDS after the last one
    facet:live:{job}:cancel   exists once someone asked to stop
    facet:live:{job}:lease    exists while a reader listens, or is expected to come (back)
    facet:waiting:{queue}     sorted set of jobs by time of submission, until a worker takes them
    facet:worker:{name}       {"queues", "state", "pid"}; expires WORKER_SECONDS after the worker's last sign of life
    facet:workers:{queue}     set of names of workers of a queue; those without a key are gone
"""

from __future__ import annotations

import json
import logging
import os
import threading
import uuid
from collections.abc import Iterable
from typing import Any

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

STREAM_LENGTH = 8192
STREAM_SECONDS = 900
HEARTBEAT_SECONDS = 2.0
WORKER_SECONDS = 6
LEASE_SECONDS = 10
FIRST_LEASE_SECONDS = 45
GONE = (redis.ConnectionError, redis.TimeoutError)
FINAL_EVENTS = frozenset({"result", "done", "error"})

log = logging.getLogger(__name__)


def stream_key(job: str) -> str:
    return f"facet:live:{job}"


def cancel_key(job: str) -> str:
    return f"facet:live:{job}:cancel"


def lease_key(job: str) -> str:
    return f"facet:live:{job}:lease"


def waiting_key(queue: str) -> str:
    return f"facet:waiting:{queue}"


def worker_key(name: str) -> str:
    return f"facet:worker:{name}"


def workers_key(queue: str) -> str:
    return f"facet:workers:{queue}"


def connect(url: str, *, retries: int = 6) -> redis.Redis:
    """Return a thread-safe client; six retries ride out an interruption of about three seconds."""
    return redis.Redis.from_url(
        url,
        decode_responses=True,
        protocol=2,
        socket_timeout=5,
        socket_connect_timeout=2,
        retry=Retry(ExponentialBackoff(cap=1.0, base=0.05), retries=retries),
        retry_on_error=list(GONE),
        health_check_interval=15,
    )


def entry(event: str, data: dict[str, Any]) -> dict[Any, Any]:
    """Return the stream entry of an event."""
    return {"event": event, "data": json.dumps(data, ensure_ascii=False, separators=(",", ":"))}


class Publisher:
    """What a worker does with the stream of one job."""

    def __init__(self, client: redis.Redis, job: str) -> None:
        self.client = client
        self.job = job

    def publish(self, event: str, data: dict[str, Any]) -> None:
        """Append an event; the stream lives on for STREAM_SECONDS."""
        pipeline = self.client.pipeline(transaction=False)
        pipeline.xadd(stream_key(self.job), entry(event, data), maxlen=STREAM_LENGTH, approximate=True)
        pipeline.expire(stream_key(self.job), STREAM_SECONDS)
        pipeline.execute()

    def stop_reason(self) -> str | None:
        """Return why to stop: "cancelled" on request, "abandoned" when nobody listens any more; None to go on."""
        pipeline = self.client.pipeline(transaction=False)
        pipeline.exists(cancel_key(self.job))
        pipeline.exists(lease_key(self.job))
        cancelled, leased = pipeline.execute()
        if cancelled:
            return "cancelled"
        return None if leased else "abandoned"


class Heartbeat(threading.Thread):
    """Says every HEARTBEAT_SECONDS that this process is alive; a lost connection is retried at the next beat."""

    def __init__(self, client: redis.Redis, queues: Iterable[str], *, label: str) -> None:
        super().__init__(name="facet-heartbeat", daemon=True)
        self.client = client
        self.queues = tuple(sorted(queues))
        self.worker = f"{label}:{uuid.uuid4().hex[:8]}"
        self.state = "starting"
        self._stopped = threading.Event()

    def beat(self) -> None:
        """Renew the key once."""
        value = json.dumps({"queues": self.queues, "state": self.state, "pid": os.getpid()})
        pipeline = self.client.pipeline(transaction=False)
        pipeline.set(worker_key(self.worker), value, ex=WORKER_SECONDS)
        for queue in self.queues:
            pipeline.sadd(workers_key(queue), self.worker)
        pipeline.execute()

    def ready(self) -> None:
        """Announce that requests are now taken."""
        self.state = "ready"
        self._beat_or_log()

    def run(self) -> None:
        while not self._stopped.is_set():
            self._beat_or_log()
            self._stopped.wait(HEARTBEAT_SECONDS)

    def stop(self) -> None:
        """Withdraw the key, so that readers need not wait for it to expire."""
        self._stopped.set()
        pipeline = self.client.pipeline(transaction=False)
        pipeline.delete(worker_key(self.worker))
        for queue in self.queues:
            pipeline.srem(workers_key(queue), self.worker)
        try:
            pipeline.execute()
        except redis.RedisError as error:
            log.warning("The heartbeat key of %s could not be withdrawn: %s", self.worker, error)

    def _beat_or_log(self) -> None:
        try:
            self.beat()
        except redis.RedisError as error:
            log.warning("No heartbeat from %s: %s", self.worker, error)


def living_workers(client: redis.Redis, queue: str) -> dict[str, str]:
    """Return the state ("starting" or "ready") of every living worker of a queue, by name; forget the dead."""
    names = sorted(map(str, client.smembers(workers_key(queue))))
    if not names:
        return {}
    values = client.mget([worker_key(name) for name in names])
    living = {name: json.loads(value)["state"] for name, value in zip(names, values, strict=True) if value}
    dead = [name for name in names if name not in living]
    if dead:
        client.srem(workers_key(queue), *dead)
    return living
