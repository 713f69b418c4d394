"""One feature: its page, and the fragments that the page asks for."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from explorer import asks, tracing
from explorer.live_queries import form_text
from features import selectors
from features.results import ExampleGroup, FeatureCard, FeatureRow, SourceCard
from inference.dashboards.results import TOP
from inference.errors import FacetError, InvalidInput

SHOWN_PER_GROUP = 2
EXPANDED = 24
RAIL = 14
RAIL_STEP = 24
MAX_TEXT_IN_URL = 1000
LEAD_CHARACTERS = 160
WIDTHS = (("stacked", "1"), ("snippet", "2"), ("paragraph", "3"), ("full", "4"))


@require_safe
def feature(request: HttpRequest, model: str, source: str, index: int) -> HttpResponse:
    """Show a feature; `?text=` fills the test box, `?group=` opens a group of contexts."""
    return render(request, "feature.html", feature_context(request, model, source, index))


def feature_context(request: HttpRequest, model: str, source: str, index: int) -> dict[str, Any]:
    """Return what feature.html shows."""
    page = selectors.feature_page(model, source, index, request.user, around=RAIL, per_group=SHOWN_PER_GROUP)
    card, groups = page.feature, page.groups
    opened = request.GET.get("group", "")
    if opened.isascii() and opened.isdigit():
        whole = selectors.example_group(card.source.id, index, int(opened), limit=EXPANDED)
        groups = tuple(whole if group.code == whole.code else group for group in groups)
    text = request.GET.get("text", "")[:MAX_TEXT_IN_URL]
    return page_context(card) | {
        "groups": groups,
        "rail": page.rail,
        "test_text": text,
        "steer_text": text or _lead(groups),
        "my_lists": selectors.lists(request.user)[:50] if request.user.is_authenticated else (),
        "previous_url": _address(card, card.previous_index, text),
        "next_url": _address(card, card.next_index, text),
    }


def _lead(groups: tuple[ExampleGroup, ...]) -> str:
    """Return what a generation may start from: the strongest context up to its peak, a line or two of it."""
    strongest = next((group.examples[0] for group in groups if group.code == TOP and group.examples), None)
    if strongest is None:
        return ""
    return strongest.text[: strongest.ends[strongest.peak_position]][-LEAD_CHARACTERS:]


def page_context(card: FeatureCard) -> dict[str, Any]:
    """Return what follows from the card alone."""
    source = card.source
    return {
        "feature": card,
        "reach": max((abs(effect.value) for effect in (*card.promoted, *card.suppressed)), default=1.0),
        "last_index": source.n_features - 1,
        "widths": WIDTHS,
        "crumbs": [(source.model, f"/{source.model}"), (source.source, source.url), (str(card.index), "")],
        "tool_query": urlencode({"model": source.model, "source": source.source}),
    }


@require_safe
def feature_rail(request: HttpRequest, model: str, source: str) -> HttpResponse:
    """Continue the rail `before` or `after` an index."""
    card = selectors.source_card(model, source)
    before, after = _index(request, "before"), _index(request, "after")
    if before is not None:
        rows = rail_rows(card, before - RAIL_STEP, before - 1)
    elif after is not None:
        rows = rail_rows(card, after + 1, after + RAIL_STEP)
    else:
        raise InvalidInput("The rail needs an index to go on from.", "Send before or after.")
    context = {"rows": rows, "source": card, "before": before is not None, "last_index": card.n_features - 1}
    return render(request, "_rail_more.html", context)


@require_safe
def feature_examples(request: HttpRequest, model: str, source: str, index: int) -> HttpResponse:
    """Show a group of contexts in full."""
    code = _index(request, "group")
    if code is None:
        raise InvalidInput("Which group of contexts?", "Send group, 0 to 7.")
    card = selectors.feature_card(model, source, index, request.user)
    group = selectors.example_group(card.source.id, index, code, limit=EXPANDED)
    if not request.htmx:
        return redirect(f"{card.url}?group={code}#group-{code}")
    return render(request, "_group.html", {"feature": card, "group": group})


@require_POST
def feature_test(request: HttpRequest, model: str, source: str, index: int) -> HttpResponse:
    """Run one feature on a text that somebody typed."""
    text = form_text(request.POST.get("text", ""))
    context = _tested(model, source, index, text, truncate=bool(request.POST.get("truncate")))
    if request.htmx:
        return render(request, "_test_answer.html", context)
    page = feature_context(request, model, source, index) | {"test_text": text, "test": context if text else None}
    return render(request, "feature.html", page)


@require_POST
def feature_sources(request: HttpRequest, model: str, source: str, index: int) -> HttpResponse:
    """Show which tokens of a text that was just run a feature of attention's outputs comes from."""
    context: dict[str, Any] = {"heading": True}
    try:
        context["traced"] = tracing.trace(
            model=model,
            source=source,
            index=index,
            text=form_text(request.POST.get("text", "")),
            truncate=request.POST.get("truncate") in ("1", "on", "true"),
            chat=request.POST.get("chat") == "1",
        )
    except FacetError as error:
        context["error"] = asks.page_error(error)
    return render(request, "_traced_panel.html", context)


@require_safe
def random_feature(request: HttpRequest, model: str, source: str) -> HttpResponse:
    """Go to a feature that fires, chosen at random."""
    _, index = selectors.random_feature(model, source)
    text = request.GET.get("text", "")[:MAX_TEXT_IN_URL]
    response = redirect(f"/{model}/{source}/{index}{'?' + urlencode({'text': text}) if text else ''}")
    response["Cache-Control"] = "no-store"
    return response


def rail_rows(source: SourceCard, first: int, last: int) -> tuple[FeatureRow, ...]:
    """Return the rows of the indices first to last that exist."""
    indices = range(max(0, first), min(source.n_features - 1, last) + 1)
    return tuple(selectors.feature_rows((source.id, index) for index in indices).values())


def _tested(model: str, source: str, index: int, text: str, *, truncate: bool) -> dict[str, Any]:
    """Return what the engine says of a text, nothing but what the source can do for an empty one."""
    card = selectors.source_card(model, source)
    context: dict[str, Any] = {"has_sources": card.has_sources}
    if not text:
        return context
    try:
        tested, traced = tracing.test_and_trace(card, index=index, text=text, truncate=truncate)
    except FacetError as error:
        return context | {"error": asks.page_error(error)}
    peak = tested.tokens[tested.peak_position].name if tested.peak_position is not None else ""
    return context | {"tested": tested, "traced": traced, "peak_token": peak}


def _address(card: FeatureCard, index: int | None, text: str) -> str:
    if index is None:
        return ""
    query = f"?{urlencode({'text': text})}" if text else ""
    return reverse("feature", args=[card.source.model, card.source.source, index]) + query


def _index(request: HttpRequest, name: str) -> int | None:
    raw = request.GET.get(name, "")
    return int(raw) if raw.isascii() and raw.isdigit() and len(raw) < 10 else None
