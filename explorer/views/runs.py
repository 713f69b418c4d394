"""Runs: the list, one run as it goes, cancel and resume. A run lives in Postgres, so closing the page is harmless."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from asgiref.sync import sync_to_async
from django.contrib.auth.decorators import login_required
from django.db import InterfaceError, OperationalError, transaction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from explorer import asks, live
from explorer.live.events import KEEP_ALIVE_SECONDS
from explorer.live.sse import COMMENT, event_stream, frame, opening
from explorer.live_values import RunsView, RunView
from features import selectors, services
from features.results import RunCard
from inference.errors import FacetError

POLL_SECONDS = 1.0
ACTIVE = frozenset({"queued", "running"})


@require_GET
def runs(request: HttpRequest) -> HttpResponse:
    """List runs, the newest first, with the workers that are there for them."""
    workers, error = None, None
    try:
        workers = live.engine_status()
    except FacetError as gone:
        error = asks.page_error(gone)
    return render(request, "runs.html", {"view": RunsView(runs=selectors.runs(), workers=workers, error=error)})


@require_GET
def run(request: HttpRequest, run_id: int) -> HttpResponse:
    """Show one run; while it goes, the page follows `run_events`."""
    view = run_view(selectors.run(run_id), may_write=request.user.is_authenticated)
    return render(request, "_run.html" if request.htmx else "run.html", {"view": view})


@require_GET
async def run_events(request: HttpRequest, run_id: int) -> HttpResponseBase:
    """Stream the run's fragment whenever it changes: event `run`, and `end` once it is over."""
    user = await request.auser()
    await sync_to_async(selectors.run)(run_id)  # an unknown run is an error of this request, not of the stream
    return event_stream(_frames(request, run_id, may_write=user.is_authenticated))


@login_required
@require_POST
def run_create(request: HttpRequest) -> HttpResponse:
    """Start a build of dictionaries of one model."""
    card = create_build(
        model=request.POST.get("model", ""),
        sources=[source for source in request.POST.getlist("source") if source],
        corpus=request.POST.get("corpus", ""),
        user=request.user,
    )
    return redirect(card.url)


@login_required
@require_POST
def run_cancel(request: HttpRequest, run_id: int) -> HttpResponse:
    """Ask the worker to stop; what it finished stays on disk for a later resume."""
    services.runs.cancel(run=run_id)
    return _after(request, run_id)


@login_required
@require_POST
def run_resume(request: HttpRequest, run_id: int) -> HttpResponse:
    """Take up a run that failed, was cancelled, or lost its worker, from the shards that are finished."""
    resume(run_id)
    return _after(request, run_id)


def create_build(*, model: str, sources: list[str], corpus: str, user) -> RunCard:
    """Store a build and send it to the batch workers once it is committed."""
    cards = asks.chosen_sources(model, sources)
    with transaction.atomic():
        run_id = services.runs.create_build(dictionaries=[card.id for card in cards], corpus=corpus, user=user)
        transaction.on_commit(lambda: live.enqueue_run(run_id))
    return selectors.run(run_id)


def resume(run_id: int) -> RunCard:
    """Queue a run again."""
    with transaction.atomic():
        services.runs.resume(run=run_id)
        transaction.on_commit(lambda: live.enqueue_run(run_id))
    return selectors.run(run_id)


def run_view(card: RunCard, *, may_write: bool) -> RunView:
    """Return the context of one run."""
    return RunView(
        run=card,
        live=card.state in ACTIVE,
        events_url=reverse("run_events", args=[card.id]),
        cancel_url=reverse("run_cancel", args=[card.id]),
        resume_url=reverse("run_resume", args=[card.id]),
        may_write=may_write,
    )


def _after(request: HttpRequest, run_id: int) -> HttpResponse:
    if request.htmx:
        view = run_view(selectors.run(run_id), may_write=True)
        return render(request, "_run.html", {"view": view})
    return redirect(reverse("run", args=[run_id]))


async def _frames(request: HttpRequest, run_id: int, *, may_write: bool) -> AsyncIterator[str]:
    yield opening()
    sent, sent_at = "", time.monotonic()
    while True:
        try:
            html, over = await sync_to_async(_fragment)(request, run_id, may_write=may_write)
        except (OperationalError, InterfaceError):
            html, over = sent, False  # Postgres is away: keep the page as it is and look again
        if html != sent:
            sent, sent_at = html, time.monotonic()
            yield frame("run", html)
        if over:
            yield frame("end", "")
            return
        if time.monotonic() - sent_at > KEEP_ALIVE_SECONDS:
            sent_at = time.monotonic()
            yield COMMENT
        await asyncio.sleep(POLL_SECONDS)


def _fragment(request: HttpRequest, run_id: int, *, may_write: bool) -> tuple[str, bool]:
    view = run_view(selectors.run(run_id), may_write=may_write)
    return render_to_string("_run.html", {"view": view}, request=request), not view.live
