"""A job's stream: nothing lost, nothing repeated, and an end for every way in which a job can end."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from explorer import asks, live
from explorer.live.events import order
from explorer.live_queries import EditQuery, PromptQuery, SteerQuery
from inference import streams
from inference.errors import FacetError

LONG = SteerQuery(
    model="tiny", text="def f", n_tokens=240, edits=(EditQuery(source="1-res-topk", index=3, strength=0.5),)
)
PROMPT = PromptQuery(model="tiny", text="def f(x): return x", top=5)


def read(job: str, *, until=lambda event: False, **options) -> list[live.Event]:
    """Return a job's events up to the end, or up to the first for which `until` holds; signs of life are left out."""

    async def collect() -> list[live.Event]:
        events = []
        async for event in live.follow(job, **options):
            if event.name:
                events.append(event)
            if until(event):
                break
        return events

    return asyncio.run(collect())


def is_token(event: live.Event) -> bool:
    return event.name == "token"


def test_a_reader_that_comes_back_gets_the_rest_and_nothing_twice(world, worker):
    job = asks.start_steering(LONG).job_id
    first = read(job, until=is_token)
    second = read(job, last_id=first[-1].id, until=lambda event: is_token(event) and event.data["index"] == 99)
    rest = read(job, last_id=second[-1].id)
    whole = read(job)
    ids = [event.id for event in [*first, *second, *rest] if event.id]
    assert ids == [event.id for event in whole if event.id]
    assert ids == sorted(set(ids), key=order)
    assert whole[-1].name == "done"
    pieces = [event.data["text"] for event in whole if is_token(event) and event.data["row"] == 1]
    assert "".join(pieces) == whole[-1].data["rows"][1]["text"]
    assert asyncio.run(live.is_over(job, whole[-1].id))
    assert not asyncio.run(live.is_over(job, whole[-2].id))


def test_cancel_ends_with_what_there_is(world, worker):
    job = asks.start_steering(LONG).job_id
    read(job, until=is_token)
    live.cancel(job)
    end = read(job)[-1]
    assert (end.name, end.data["stopped"]) == ("done", "cancelled")
    assert 1 <= len(end.data["rows"][0]["tokens"]) < 240


def test_what_is_no_job_leaves_nothing_in_valkey(valkey):
    for job in ("", "x" * 5000, "a:b", "0" * 31, "\n" * 32):
        with pytest.raises(live.JobUnknown):
            live.cancel(job)
    assert not streams.connect(valkey).keys("facet:live:*x*")


def test_a_job_that_nobody_reads_is_abandoned(world, worker, valkey):
    job = asks.start_steering(LONG).job_id
    client = streams.connect(valkey)
    begun, _ = read(job, until=is_token), client.delete(streams.lease_key(job))
    # Wait without a lease: reading through `follow` would renew it.
    last = begun[-1].id
    while True:
        found = client.xread({streams.stream_key(job): last}, block=5000)
        assert found, "the worker neither stopped nor went on"
        last, fields = found[0][1][-1]
        if fields["event"] == "done":
            break
    assert '"stopped":"abandoned"' in fields["data"]


def test_what_waits_says_its_place_and_can_be_cancelled(world, worker):
    pid = worker.running["engine"].pid
    os.kill(pid, signal.SIGSTOP)
    try:
        jobs = [asks.start_steering(LONG).job_id for _ in range(3)]
        places = [read(job, until=lambda event: event.name == "queued")[-1].data for job in jobs]
        assert places == [{"position": place, "starting": False} for place in range(3)]
        live.cancel(jobs[1])
        assert read(jobs[1])[-1].data["code"] == "cancelled"
        assert live.engine_status().waiting == 2
        live.cancel(jobs[0])
    finally:
        os.kill(pid, signal.SIGCONT)
    assert read(jobs[2])[-1].name == "done"
    assert live.engine_status().waiting == 0


def test_more_than_the_limit_is_refused(world, worker, settings):
    settings.FACET_LIVE_QUEUE = 0
    with pytest.raises(live.EngineBusy) as raised:
        asks.prompt_features(PROMPT)
    assert raised.value.status == 503


def test_a_deadline_ends_the_job_for_all_readers(world, worker):
    pid = worker.running["engine"].pid
    os.kill(pid, signal.SIGSTOP)
    try:
        job = asks.start_steering(LONG).job_id
        with pytest.raises(FacetError) as raised:
            live.wait(job, timeout=1.0)
        assert (raised.value.code, raised.value.status) == ("timeout", 504)
        assert read(job)[-1].data["code"] == "timeout"
    finally:
        os.kill(pid, signal.SIGCONT)


def test_an_unknown_job_is_not_found(world, worker):
    with pytest.raises(live.JobUnknown):
        read("0" * 32)


def test_a_killed_worker_is_noticed_and_the_next_one_serves(world, worker):
    job = asks.start_steering(LONG).job_id
    read(job, until=is_token)
    worker.kill("engine")
    try:
        events = read(job)
        assert events[-1].name == "error"
        assert events[-1].data["code"] == "worker-lost"
        assert events[-1].data["details"]["retry"]
        assert "Retry" in events[-1].data["remedy"]

        with pytest.raises(FacetError) as raised:
            asks.prompt_features(PROMPT)
        assert (raised.value.code, raised.value.status) == ("no-worker", 503)
        assert "celery -A explorer worker" in raised.value.remedy
        assert live.engine_status().engine == ()
    finally:
        worker.start("engine")
    assert asks.prompt_features(PROMPT).features
    # What nobody answered is not computed by the new worker either.
    assert [event.name for event in read(job)][-1] == "error"


def test_a_reader_can_leave_at_any_moment(world, worker):
    async def read(job: str) -> None:
        async for _ in live.follow(job):
            pass

    async def stayed() -> list[int]:
        found = []
        # A reader connects, renews the lease, and waits, in some hundred turns of the loop.
        for turns in range(600):
            reading = asyncio.create_task(read(job))
            for _ in range(turns):
                await asyncio.sleep(0)
            reading.cancel()
            _, pending = await asyncio.wait([reading], timeout=5)
            found += [turns] * len(pending)
        return found

    pid = worker.running["engine"].pid
    os.kill(pid, signal.SIGSTOP)
    try:
        job = asks.start_steering(LONG).job_id
        assert asyncio.run(stayed()) == []
    finally:
        os.kill(pid, signal.SIGCONT)
