"""The steer page: default and steered text side by side, token by token."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from explorer import asks
from explorer.live_queries import MAX_TEXT_BYTES, MAX_TOKENS, SteerQuery
from explorer.live_values import SteerFeature, SteerView
from explorer.views.prompt import status_of
from features import selectors
from inference.errors import FacetError

STRONG = 2.0
NOTES = (
    "Each edit adds strength × the feature's maximum × the unit decoder direction, at the dictionary's output.",
    "The rest of the activation stays as it is, the dictionary's reconstruction error included.",
    "Of a dictionary that compares models, what it writes in the others is left out.",
    "BOS is left as it is. Both rows draw from the same random numbers, so that strength 0 gives the default text.",
    "Log-probabilities are at temperature 1, each under its own row's model.",
)


@require_safe
def steer(request: HttpRequest) -> HttpResponse:
    """Show the recipe of the URL; a generation adds `run=1`, with which the page generates on load."""
    view, _ = steer_view(request.GET)
    problem = view.error or view.add_error
    if request.GET.get("run") and view.text and view.features and problem is None:
        view = replace(view, starts=True)
    return render(request, "steer.html", {"view": view}, status=status_of(problem))


@require_POST
def steer_start(request: HttpRequest) -> HttpResponse:
    """Begin to generate; htmx gets the fragment that follows the events, others the page with the finished texts."""
    view, query = steer_view(request.POST)
    problem = view.error or view.add_error
    if not request.htmx:
        if problem is None:
            view = _waited(view, query)
        return render(request, "steer.html", {"view": view}, status=status_of(view.error or view.add_error))
    if problem is None:
        try:
            view = replace(view, job=asks.start_steering(query))
        except FacetError as refused:
            problem = asks.page_error(refused)
    view = replace(view, error=problem)
    response = render(request, "_steer_run.html", {"view": view})
    if view.error is None:
        response["HX-Replace-Url"] = f"{reverse('steer')}?{view.query}&run=1"
    return response


def steer_view(params: QueryDict) -> tuple[SteerView, SteerQuery]:
    """Return the page's context without job or result, and the recipe that it shows.

    What is wrong with one field or one feature is said, and the rest of the recipe stays. Without a model in the
    parameters, the first one is chosen.
    """
    query, unread = SteerQuery.read(params)
    error: FacetError | None = unread
    models = selectors.home().models
    if query.model and all(card.slug != query.model for card in models):
        selectors.model_page(query.model)  # raises, with suggestions
    if not query.model and models:
        query = query.with_model(models[0].slug)
    chosen = next((card for card in models if card.slug == query.model), None)
    features: tuple[SteerFeature, ...] = ()
    add_error: FacetError | None = None
    if chosen:
        features, unknown = _known(query)
        error = error or unknown
        try:
            added = SteerQuery.addition(params)
            if added is not None:
                longer = query.with_edit(added)
                features += asks.steer_features(replace(query, edits=(added,)))
                query = longer
        except FacetError as refused:
            add_error = refused
    view = SteerView(
        models=models,
        model=chosen,
        sources=selectors.model_page(chosen.slug).sources if chosen else (),
        text=query.text,
        features=features,
        n_tokens=query.n_tokens,
        max_tokens=MAX_TOKENS,
        temperature=query.temperature,
        top_p=query.top_p,
        seed=query.seed,
        truncate=query.truncate,
        query=query.query_string(),
        max_bytes=MAX_TEXT_BYTES,
        notes=NOTES,
        warnings=tuple(
            f"{feature.address}: strength {feature.strength:g} is above {STRONG:g} times anything seen in the corpus."
            for feature in features
            if abs(feature.strength) > STRONG
        ),
        error=asks.page_error(error) if error else None,
        add_source=params.get("add_source", ""),
        add_index=params.get("add_index", "") if add_error else "",
        add_error=asks.page_error(add_error) if add_error else None,
    )
    return view, query


def _known(query: SteerQuery) -> tuple[tuple[SteerFeature, ...], FacetError | None]:
    """Return the features of the recipe that exist, and why another one does not."""
    if not query.edits:
        return (), None
    try:
        return asks.steer_features(query), None
    except FacetError as error:
        known: list[SteerFeature] = []
        for edit in query.edits:
            with suppress(FacetError):
                known += asks.steer_features(replace(query, edits=(edit,)))
        return tuple(known), error


def _waited(view: SteerView, query: SteerQuery) -> SteerView:
    try:
        job = asks.start_steering(query)
        return replace(view, result=asks.steering_result(job))
    except FacetError as error:
        return replace(view, error=asks.page_error(error))
