"""Follow a job's stream: every event once and in order, with the reader's own findings about worker and queue.

Stream entries carry their Valkey id, so that a reader resumes after the last one it saw. What the reader finds out by
itself (`queued` with a position, `waiting` while Valkey is away) has no id. A worker that is gone and a deadline that
has passed are written into the stream, where every other reader finds the same end.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any

import redis.asyncio
from django.conf import settings

from explorer.live.errors import JobUnknown, LiveTimeout, NoWorker, ValkeyGone, worker_lost
from inference import streams
from inference.errors import FacetError, InvalidInput

START = "0-0"
POLL_SECONDS = 1.0
KEEP_ALIVE_SECONDS = 10.0
ABSENCE_SECONDS = (
    2.5  # a missing key must stay missing so long: after a restart of Valkey all keys are missing at first
)
NO_WORKER_SECONDS = 3.0
OUTAGE_SECONDS = 15.0
DISCONNECTED_LEASE_SECONDS = 5
ANSWER_SECONDS = 5.0
NO_ANSWER = (*streams.GONE, TimeoutError)

_ID = re.compile(r"\d{1,20}-\d{1,20}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event of a job. `id` is empty where the reader made it; `name` is empty for a sign of life without news."""

    name: str
    data: dict[str, Any]
    id: str = ""

    @property
    def is_final(self) -> bool:
        return self.name in streams.FINAL_EVENTS


def parse_last_id(value: str | None) -> str:
    """Return the id after which to resume.

    Raises:
        InvalidInput: where the value is not an id of this service.
    """
    if not value:
        return START
    if not _ID.fullmatch(value):
        raise InvalidInput(
            "The Last-Event-ID is not one that this service sent.", "Reconnect without it.", last_id=value[:64]
        )
    return value


def order(entry_id: str) -> tuple[int, int]:
    """Return the sort key of a stream id."""
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence)


def client() -> redis.asyncio.Redis:
    """Return a client for the running event loop; the caller closes it, and bounds how long it waits for answers.

    A `socket_timeout` of its own would have it send by `asyncio.wait_for`, which in Python 3.11 swallows a cancellation
    that comes as it ends: a reader that is gone was then followed until its job was over.
    """
    return redis.asyncio.Redis.from_url(
        settings.REDIS_URL, decode_responses=True, protocol=2, socket_timeout=None, socket_connect_timeout=2
    )


async def is_over(job: str, last_id: str) -> bool:
    """Say whether the reader that saw `last_id` has seen the end."""
    async with client() as valkey:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                last: Any = await valkey.xrevrange(streams.stream_key(job), count=1)
        except NO_ANSWER:
            return False
    return bool(last) and last[0][1]["event"] in streams.FINAL_EVENTS and order(last[0][0]) <= order(last_id)


async def follow(
    job: str, *, last_id: str = START, queue: str = "engine", timeout: float | None = None
) -> AsyncGenerator[Event]:
    """Yield the events of a job after `last_id` until the final one.

    Args:
        timeout: seconds from now after which the job is cancelled and ends with a timeout.

    Raises:
        JobUnknown: where there is no such stream.
        ValkeyGone: where Valkey stays away for OUTAGE_SECONDS.
    """
    async with client() as valkey:
        reader = _Reader(valkey, job, last_id=last_id, queue=queue, timeout=timeout)
        try:
            async with aclosing(reader.events()) as events:
                async for event in events:
                    yield event
        finally:
            await reader.leave()


class _Reader:
    """The state of one reader of one job."""

    def __init__(
        self, valkey: redis.asyncio.Redis, job: str, *, last_id: str, queue: str, timeout: float | None
    ) -> None:
        self.valkey = valkey
        self.job = job
        self.key = streams.stream_key(job)
        self.last_id = last_id
        self.queue = queue
        self.timeout = timeout
        self.begin = time.monotonic()
        self.worker = ""
        self.position: dict[str, Any] | None = None
        self.finished = False
        self._absent_since: float | None = None
        self._outage_since: float | None = None
        self._resumed = last_id == START
        self._seen = False

    async def events(self) -> AsyncGenerator[Event]:
        silent_since = time.monotonic()
        while not self.finished:
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    found = await self._read()
                    news = [] if found else await self._examine()
                self._outage_since = None
            except NO_ANSWER as error:
                found, news = [], self._outage(error)
                await asyncio.sleep(0.5)
            for event in [*found, *news]:
                silent_since = time.monotonic()
                yield event
            if time.monotonic() - silent_since > KEEP_ALIVE_SECONDS:
                silent_since = time.monotonic()
                yield Event(name="", data={})

    async def leave(self) -> None:
        """Shorten the lease of an unfinished job: a reader that was cut off has a few seconds to come back."""
        if self.finished:
            return
        with suppress(*NO_ANSWER):
            async with asyncio.timeout(ANSWER_SECONDS):
                await self.valkey.expire(streams.lease_key(self.job), DISCONNECTED_LEASE_SECONDS)

    async def _read(self) -> list[Event]:
        if not self._resumed:
            await self._find_worker()
            self._resumed = True
        await self.valkey.set(streams.lease_key(self.job), "1", ex=streams.LEASE_SECONDS)
        answer: Any = await self.valkey.xread({self.key: self.last_id}, count=512, block=int(POLL_SECONDS * 1000))
        events = []
        self._seen = self._seen or bool(answer)
        for entry_id, fields in answer[0][1] if answer else []:
            self.last_id = entry_id
            event = Event(name=fields["event"], data=json.loads(fields["data"]), id=entry_id)
            if event.name == "started":
                self.worker = event.data["worker"]
            events.append(event)
            if event.is_final:
                self.finished = True
                break
        return events

    async def _find_worker(self) -> None:
        first: Any = await self.valkey.xrange(self.key, count=4)
        for _, fields in first:
            if fields["event"] == "started":
                self.worker = json.loads(fields["data"])["worker"]

    async def _examine(self) -> list[Event]:
        """Look after a job that sends nothing: is the stream there, the worker alive, the deadline ahead?"""
        if not await self.valkey.exists(self.key):
            # A stream that was there may come back: Valkey lost it, and its worker goes on to write.
            if self._seen and self._absent_for() < ABSENCE_SECONDS:
                return []
            raise JobUnknown(self.job)
        self._seen = True
        if self.timeout is not None and time.monotonic() - self.begin > self.timeout:
            await self._end_with(LiveTimeout(self.timeout, started=bool(self.worker)))
            return []
        if self.worker:
            if await self.valkey.exists(streams.worker_key(self.worker)):
                self._absent_since = None
            elif self._absent_for() >= ABSENCE_SECONDS:
                await self._end_with(worker_lost(self.worker))
            return []
        return await self._examine_queue()

    async def _examine_queue(self) -> list[Event]:
        names: Any = await self.valkey.smembers(streams.workers_key(self.queue))
        values = await self.valkey.mget([streams.worker_key(name) for name in names]) if names else []
        states = [json.loads(value)["state"] for value in values if value]
        if not states:
            if self._absent_for() >= NO_WORKER_SECONDS:
                await self._end_with(NoWorker(self.queue))
            return []
        self._absent_since = None
        before = await self.valkey.zrank(streams.waiting_key(self.queue), self.job)
        position = {"position": before or 0, "starting": "ready" not in states}
        if position == self.position:
            return []
        self.position = position
        return [Event(name="queued", data=position)]

    async def _end_with(self, error: FacetError) -> None:
        """Write the end into the stream, from which this reader and all others read it."""
        pipeline = self.valkey.pipeline(transaction=False)
        pipeline.set(streams.cancel_key(self.job), "1", ex=streams.STREAM_SECONDS)
        pipeline.zrem(streams.waiting_key(self.queue), self.job)
        pipeline.xadd(self.key, streams.entry("error", error.as_dict()))
        pipeline.expire(self.key, streams.STREAM_SECONDS)
        await pipeline.execute()

    def _absent_for(self) -> float:
        now = time.monotonic()
        if self._absent_since is None:
            self._absent_since = now
        return now - self._absent_since

    def _outage(self, error: Exception) -> list[Event]:
        now = time.monotonic()
        if self._outage_since is None:
            self._outage_since = now
            return [Event(name="waiting", data={"for": "valkey"})]
        if now - self._outage_since > OUTAGE_SECONDS:
            raise ValkeyGone from error
        return []
