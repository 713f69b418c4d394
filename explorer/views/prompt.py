"""The prompt page: which features fire where in a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from explorer import asks
from explorer.live_queries import DENSITIES, MAX_TEXT_BYTES, RANKS, PromptQuery
from explorer.live_values import Choice, PageError, PromptView
from features import selectors
from features.results import ModelCard, SourceCard
from inference.errors import FacetError

RANK_NAMES = {"max": "Activation", "share": "Activation ÷ maximum", "mean": "Mean"}


@require_safe
def prompt(request: HttpRequest) -> HttpResponse:
    """Show the page with the state of the URL; `run=1` also computes, for browsers without scripts."""
    query, error = _query(request.GET)
    view = prompt_view(query, error=error)
    if request.GET.get("run") and error is None:
        view = _answered(view, query)
    return render(request, "prompt.html", {"view": view}, status=status_of(view.error))


@require_POST
def prompt_run(request: HttpRequest) -> HttpResponse:
    """Compute; answer the result alone to htmx, the whole page otherwise."""
    query, error = _query(request.POST)
    view = prompt_view(query, error=error)
    if error is None:
        view = _answered(view, query)
    if not request.htmx:
        return render(request, "prompt.html", {"view": view}, status=status_of(view.error))
    response = render(request, "_prompt_result.html", {"view": view})
    if view.error is None:
        response["HX-Replace-Url"] = f"{reverse('prompt')}?{view.query}"
    return response


def prompt_view(query: PromptQuery, *, error: PageError | None = None) -> PromptView:
    """Return the page's context without a result. Without a model in the query, the first one is chosen."""
    models = selectors.home().models
    chosen = next((card for card in models if card.slug == query.model), None)
    if query.model and chosen is None:
        selectors.model_page(query.model)  # raises, with suggestions
    if not query.model and models:
        chosen = models[0]
    sources = selectors.model_page(chosen.slug).sources if chosen else ()
    if chosen and not query.model:
        query = replace(query, model=chosen.slug)
    chosen_sources = tuple((card, not query.sources or card.source in query.sources) for card in sources)
    rank = asks.ranking(query, [card for card, is_chosen in chosen_sources if is_chosen])
    return PromptView(
        models=models,
        model=chosen,
        sources=chosen_sources,
        text=query.text,
        rank=rank,
        ranks=tuple(
            Choice(value=value, name=RANK_NAMES[value], selected=value == rank, hint=hint)
            for value, hint in RANKS.items()
        ),
        density=query.density,
        densities=density_choices(query.density),
        at=query.at,
        top=query.top,
        truncate=query.truncate,
        query=query.query_string(),
        max_bytes=MAX_TEXT_BYTES,
        chats=chat_choices(query, chosen, [card for card, is_chosen in chosen_sources if is_chosen]),
        error=error,
    )


def density_choices(chosen: float | None) -> tuple[Choice, ...]:
    """Return the options of the density filter, the chosen one among them."""
    values = sorted({*DENSITIES, *([chosen] if chosen is not None else [])}, reverse=True)
    return (
        Choice(value="", name="Any density", selected=chosen is None),
        *(Choice(value=f"{value:g}", name=f"≤ {value * 100:g} %", selected=value == chosen) for value in values),
    )


def chat_choices(query: PromptQuery, model: ModelCard | None, sources: Sequence[SourceCard]) -> tuple[Choice, ...]:
    """Return how a text may be read where the model has a chat template, nothing where it has none."""
    if model is None or not model.has_chat:
        return ()
    is_chat = asks.as_chat(query, sources)
    return (
        Choice(value="0", name="text as it is", selected=not is_chat),
        Choice(value="1", name="chat turn", selected=is_chat, hint="in the words of the model's chat template"),
    )


def status_of(error: PageError | None) -> int:
    """Return the status of a whole page that shows this error in place."""
    if error is None:
        return 200
    return 503 if error.retry else 422


def _query(params: QueryDict) -> tuple[PromptQuery, PageError | None]:
    try:
        return PromptQuery.from_params(params), None
    except FacetError as error:
        return PromptQuery(model=params.get("model", ""), text=params.get("text", "")), asks.page_error(error)


def _answered(view: PromptView, query: PromptQuery) -> PromptView:
    if view.error is not None or view.model is None:
        return view
    try:
        return replace(view, result=asks.prompt_features(replace(query, model=view.model.slug)))
    except FacetError as error:
        return replace(view, error=asks.page_error(error))
