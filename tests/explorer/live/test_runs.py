"""Builds as runs: by a real batch worker, to the end, through a crash, and as people steer them."""

from __future__ import annotations

import inspect
import json
import string
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from django.contrib.auth import get_user_model

from explorer import run_actions
from features import services
from features.loading import read_model
from features.models import Dictionary, Feature, Run
from features.run_results import RunCard
from features.selectors import run as run_card
from features.services.corpora import NewDocument
from tests.explorer.live.test_http import Client, events_of
from tests.explorer.world import SOURCES

SECONDS = 120


@pytest.fixture
def unbuilt(folders, transactional_db):
    """A model, its dictionaries and a corpus as a user adds them; dictionaries by source."""
    services.models.add_model(facts=read_model(folders.model), slug="tiny")
    for source, folder in folders.dictionaries.items():
        services.dictionaries.add_dictionary(path=folder, model="tiny", source=source)
    files = [Path(inspect.getsourcefile(module)) for module in (json, string, textwrap, inspect)]
    services.corpora.add_corpus(name="stdlib", documents=[NewDocument(name=file.name, path=file) for file in files])
    return {row.source: row for row in Dictionary.objects.all()}


@pytest.fixture
def user(transactional_db):
    return get_user_model().objects.create_user("ada", password="lovelace-1843")


def wait_for(run_id: int, reached: Callable[[RunCard], bool]) -> RunCard:
    deadline = time.monotonic() + SECONDS
    while not reached(card := run_card(run_id)):
        assert time.monotonic() < deadline and not card.error, card
        time.sleep(0.05)
    return card


def is_over(card: RunCard) -> bool:
    return card.state in ("done", "failed", "cancelled")


def test_a_build_runs_to_the_end_and_its_events_tell(unbuilt, user, worker, server):
    card = run_actions.create_build(model="tiny", sources=[], corpus="stdlib", user=user, n_tokens=20_000)
    client = Client(server)
    events = list(events_of(client.open("GET", f"/api/v1/runs/{card.id}/events")))
    assert events[-1]["event"] == "end"
    last = json.loads(events[-2]["data"])
    assert (last["state"], last["error"]) == ("done", "")
    html = list(events_of(client.open("GET", f"/runs/{card.id}/events")))
    assert [event["event"] for event in html] == ["run", "end"]
    assert "done" in html[0]["data"]
    assert Dictionary.objects.filter(built_at__isnull=False).count() == len(SOURCES)
    assert Feature.objects.of(unbuilt["1-res-topk"].id).alive().exists()


def test_a_build_whose_worker_is_killed_goes_on_with_the_next_one(unbuilt, user, worker):
    card = run_actions.create_build(model="tiny", sources=["1-res-topk"], corpus="stdlib", user=user, n_tokens=60_000)
    wait_for(card.id, lambda card: card.phase == "encode" and card.done > 0)
    worker.kill("batch")
    assert run_card(card.id).state == "running"
    worker.start("batch")
    end = wait_for(card.id, is_over)
    assert (end.state, end.error) == ("done", "")
    assert any("lost" in line for line in end.log)


def test_a_run_is_cancelled_and_resumed(unbuilt, user, worker):
    card = run_actions.create_build(model="tiny", sources=["1-res-topk"], corpus="stdlib", user=user, n_tokens=60_000)
    wait_for(card.id, lambda card: card.phase == "encode" and card.done > 0)
    run_actions.cancel_run(card.id, user=user)
    assert wait_for(card.id, is_over).state == "cancelled"
    run_actions.resume_run(card.id, user=user)
    assert wait_for(card.id, is_over).state == "done"


def test_a_run_that_waits_is_cancelled_at_once_and_never_built(unbuilt, user, worker):
    worker.kill("batch")
    try:
        card = run_actions.create_build(model="tiny", sources=["1-res-topk"], corpus="stdlib", user=user)
        run_actions.cancel_run(card.id, user=user)
        assert run_card(card.id).state == "cancelled"
    finally:
        worker.start("batch")
    time.sleep(1.0)
    assert Run.objects.get(id=card.id).state == "cancelled"
