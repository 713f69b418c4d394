"""Long jobs: what runs, and start, stop or take up one."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from dataclasses import asdict

from asgiref.sync import sync_to_async
from django.core.serializers.json import DjangoJSONEncoder
from django.http import HttpRequest, StreamingHttpResponse
from ninja import Router, Status

from explorer import asks
from explorer.api import schemas
from explorer.api.auth import SIGNED_IN, caller
from explorer.live.sse import COMMENT, event_stream, frame, opening
from explorer.run_actions import cancel_run, create_build, create_evaluation, resume_run, states
from features import estimates, selectors
from features.estimates import Estimate
from features.run_results import RunCard

router = Router(tags=["runs"])


@router.get("/runs", response=list[RunCard], operation_id="runs")
def runs(request: HttpRequest) -> list[RunCard]:
    """Return the newest runs, without their logs."""
    return list(selectors.runs())


@router.get("/runs/{int:run_id}", response=RunCard, operation_id="run")
def run(request: HttpRequest, run_id: int) -> RunCard:
    """Return a run with the end of its log."""
    return selectors.run(run_id)


@router.get("/runs/{int:run_id}/events", operation_id="run_events")
async def events(request: HttpRequest, run_id: int) -> StreamingHttpResponse:
    """Stream the run as Server-Sent Events: `run` with its JSON whenever it changes, `end` once it is over."""
    await sync_to_async(selectors.run)(run_id)
    return event_stream(_frames(run_id))


@router.post("/runs", response={201: RunCard}, auth=SIGNED_IN, operation_id="create_run")
def create(request: HttpRequest, body: schemas.RunIn) -> Status[RunCard]:
    """Start to build the dashboards of one or several sources of a model."""
    card = create_build(
        model=body.model,
        sources=body.sources,
        corpus=body.corpus,
        n_tokens=body.n_tokens,
        context_size=body.context_size,
        user=caller(request),
    )
    return Status(201, card)


@router.post("/estimates", response=Estimate, operation_id="estimate_build")
def estimate(request: HttpRequest, body: schemas.EstimateIn) -> Estimate:
    """Return the time, memory and disk that a build would take, measured on builds that are finished."""
    cards = asks.chosen_sources(body.model, body.sources)
    return estimates.estimate(dictionaries=[card.id for card in cards], n_tokens=body.n_tokens)


@router.post("/evaluations", response={201: RunCard}, auth=SIGNED_IN, operation_id="create_evaluation")
def evaluate(request: HttpRequest, body: schemas.EvaluationIn) -> Status[RunCard]:
    """Start to measure how faithful one or several sources of a model are."""
    card = create_evaluation(
        model=body.model,
        sources=body.sources,
        corpus=body.corpus,
        n_tokens=body.n_tokens,
        split=body.split,
        context_size=body.context_size,
        user=caller(request),
    )
    return Status(201, card)


@router.post("/runs/{int:run_id}/cancel", response=RunCard, auth=SIGNED_IN, operation_id="cancel_run")
def cancel(request: HttpRequest, run_id: int) -> RunCard:
    """Ask the worker to stop; finished shards are kept for a resume. For who started the run, and staff."""
    return cancel_run(run_id, user=caller(request))


@router.post("/runs/{int:run_id}/resume", response=RunCard, auth=SIGNED_IN, operation_id="resume_run")
def resume(request: HttpRequest, run_id: int) -> RunCard:
    """Take up a run that failed, was cancelled or lost its worker. For who started the run, and staff."""
    return resume_run(run_id, user=caller(request))


async def _frames(run_id: int) -> AsyncGenerator[str]:
    yield opening()
    async for card in states(run_id):
        yield frame("run", json.dumps(asdict(card), cls=DjangoJSONEncoder)) if card else COMMENT
    yield frame("end", "{}")
