"""Runs: the list, one run as it goes, cancel and resume. A run lives in Postgres, so closing the page is harmless."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from asgiref.sync import sync_to_async
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.http import HttpRequest, HttpResponse, QueryDict
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST, require_safe

from explorer import asks, live
from explorer.live.sse import COMMENT, event_stream, frame, opening
from explorer.live_values import RunsView, RunView
from explorer.run_actions import ACTIVE, cancel_run, create_build, create_evaluation, resume_run, states
from features import estimates, selectors, services
from features.results import ModelPage
from features.run_results import RunCard
from features.services.runs import CONTEXT_SIZE, N_TOKENS
from inference.errors import FacetError, InvalidInput, SignInRequired


@require_safe
def runs(request: HttpRequest) -> HttpResponse:
    """List runs, the newest first, with the workers that are there for them."""
    workers, error = None, None
    try:
        workers = live.engine_status()
    except FacetError as gone:
        error = asks.page_error(gone)
    return render(request, "runs.html", {"view": RunsView(runs=selectors.runs(), workers=workers, error=error)})


@require_safe
def run(request: HttpRequest, run_id: int) -> HttpResponse:
    """Show one run; while it goes, the page follows `run_events`."""
    view = run_view(selectors.run(run_id), request.user)
    context = {"view": view, "place": "runs", "crumbs": [("Runs", reverse("runs")), (f"{run_id}", "")]}
    return render(request, "_run.html" if request.htmx else "run.html", context)


@require_GET
async def run_events(request: HttpRequest, run_id: int) -> HttpResponseBase:
    """Stream the run's fragment whenever it changes: event `run`, and `end` once it is over."""
    user = await request.auser()
    await sync_to_async(selectors.run)(run_id)  # an unknown run is an error of this request, not of the stream
    return event_stream(_frames(request, run_id, user))


@require_http_methods(["GET", "HEAD", "POST"])
def run_create(request: HttpRequest) -> HttpResponse:
    """Choose what to build, with an estimate (GET; htmx gets the estimate alone), or start the build (POST)."""
    require_account(request)
    if request.method == "POST":
        card = create_build(
            model=request.POST.get("model", ""),
            sources=chosen(request.POST),
            corpus=request.POST.get("corpus", ""),
            n_tokens=whole_number(request.POST, "tokens"),
            context_size=whole_number(request.POST, "context"),
            user=request.user,
        )
        return redirect(card.url)
    page = selectors.model_page(request.GET.get("model", ""))
    asked = chosen(request.GET)
    if not (asked or request.htmx):
        # An address that names none means those that are not built, or all.
        asked = [c.source for c in page.sources if c.built_at is None] or [c.source for c in page.sources]
    context = _estimated(request, page, asked)
    if request.htmx:
        return render(request, "_estimate.html", context)
    context |= {
        "model": page.model,
        "sources": [(card, card.source in asked) for card in page.sources],
        "corpora": selectors.corpora(),
        "asked_corpus": request.GET.get("corpus", ""),
        "context_size": min(CONTEXT_SIZE, page.model.context_size),
        "crumbs": [(page.model.slug, page.model.url), ("Build", "")],
    }
    return render(request, "build.html", context)


def _estimated(request: HttpRequest, page: ModelPage, asked: Sequence[str]) -> dict[str, object]:
    """Return what the build of some dictionaries would take, or what is wrong with the query string that asks."""
    cards = [card for card in page.sources if card.source in asked]
    try:
        n_tokens = whole_number(request.GET, "tokens") or N_TOKENS
        estimate = estimates.estimate(dictionaries=[card.id for card in cards], n_tokens=n_tokens)
    except InvalidInput as error:
        return {"n_tokens": request.GET.get("tokens", ""), "estimate": None, "estimate_error": error}
    return {"n_tokens": n_tokens, "estimate": estimate}


def chosen(params: QueryDict) -> list[str]:
    """Return the sources that a form names."""
    return [source for source in params.getlist("source") if source]


@require_POST
def evaluation_create(request: HttpRequest, model: str, source: str) -> HttpResponse:
    """Start to measure how faithful a dictionary is."""
    require_account(request)
    card = create_evaluation(
        model=model,
        sources=[source],
        corpus=request.POST.get("corpus", ""),
        n_tokens=whole_number(request.POST, "tokens"),
        split=request.POST.get("split") or "test",
        user=request.user,
    )
    return redirect(card.url)


@require_POST
def run_cancel(request: HttpRequest, run_id: int) -> HttpResponse:
    """Ask the worker to stop; what it finished stays on disk for a later resume. For who started it, and staff."""
    return _after(request, cancel_run(run_id, user=request.user))


@require_POST
def run_resume(request: HttpRequest, run_id: int) -> HttpResponse:
    """Take up a run that failed, was cancelled, or lost its worker. For who started it, and staff."""
    return _after(request, resume_run(run_id, user=request.user))


def require_account(request: HttpRequest) -> None:
    """Raise SignInRequired for visitors."""
    if not request.user.is_authenticated:
        raise SignInRequired("Starting, stopping and resuming runs needs an account.", "Sign in, then try again.")


def whole_number(params: QueryDict, name: str) -> int | None:
    """Return a whole number of a form, None where its field is empty; raise InvalidInput."""
    raw = params.get(name, "").strip().replace(",", "").replace("_", "")
    if not raw:
        return None
    if not (raw.isascii() and raw.isdigit() and len(raw) < 16):
        raise InvalidInput(f"{name} is {raw[:40]!r}.", "Write a whole number.", field=name)
    return int(raw)


def run_view(card: RunCard, user: AbstractBaseUser | AnonymousUser) -> RunView:
    """Return the context of one run for one reader."""
    return RunView(
        run=card,
        live=card.state in ACTIVE,
        events_url=reverse("run_events", args=[card.id]),
        cancel_url=reverse("run_cancel", args=[card.id]),
        resume_url=reverse("run_resume", args=[card.id]),
        signed_in=user.is_authenticated,
        may_control=services.runs.may_control(started_by=card.started_by, user=user),
    )


def _after(request: HttpRequest, card: RunCard) -> HttpResponse:
    if request.htmx:
        return render(request, "_run.html", {"view": run_view(card, request.user)})
    return redirect(card.url)


async def _frames(request: HttpRequest, run_id: int, user: AbstractBaseUser | AnonymousUser) -> AsyncIterator[str]:
    yield opening()
    async for card in states(run_id):
        if card is None:
            yield COMMENT
        else:
            view = run_view(card, user)
            yield frame("run", await sync_to_async(render_to_string)("_run.html", {"view": view}, request=request))
    yield frame("end", "")
