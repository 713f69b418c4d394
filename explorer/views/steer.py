"""The steer page: default and steered text side by side, token by token."""

from __future__ import annotations

from dataclasses import replace

from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from explorer import asks
from explorer.live_queries import MAX_TEXT_BYTES, MAX_TOKENS, SteerQuery
from explorer.live_values import PageError, SteerFeature, SteerView
from explorer.views.prompt import status_of
from features import selectors
from inference.errors import FacetError

STRONG = 2.0
NOTES = (
    "Each edit adds strength × the feature's maximum × the unit decoder direction, at the dictionary's output.",
    "The rest of the activation stays as it is, the dictionary's reconstruction error included.",
    "BOS is left as it is. Both rows draw from the same random numbers, so that strength 0 gives the default text.",
    "Log-probabilities are at temperature 1, each under its own row's model.",
)


@require_GET
def steer(request: HttpRequest) -> HttpResponse:
    """Show the recipe of the URL; `run=1` also generates, for browsers without scripts."""
    query, error = _query(request.GET)
    view = steer_view(query, error=error)
    if request.GET.get("run") and view.error is None:
        view = _waited(view, query)
    return render(request, "steer.html", {"view": view}, status=status_of(view.error))


@require_POST
def steer_start(request: HttpRequest) -> HttpResponse:
    """Begin to generate; htmx gets the fragment that follows the events, others the page with the finished texts."""
    query, error = _query(request.POST)
    view = steer_view(query, error=error)
    if not request.htmx:
        if view.error is None:
            view = _waited(view, query)
        return render(request, "steer.html", {"view": view}, status=status_of(view.error))
    if view.error is None:
        try:
            view = replace(view, job=asks.start_steering(_of_model(query, view)))
        except FacetError as refused:
            view = replace(view, error=asks.page_error(refused))
    response = render(request, "_steer_run.html", {"view": view})
    if view.error is None:
        response["HX-Replace-Url"] = f"{reverse('steer')}?{view.query}"
    return response


def steer_view(query: SteerQuery, *, error: PageError | None = None) -> SteerView:
    """Return the page's context without job or result. Without a model in the query, the first one is chosen."""
    models = selectors.home().models
    chosen = next((card for card in models if card.slug == query.model), None)
    if query.model and chosen is None:
        selectors.model_page(query.model)  # raises, with suggestions
    if not query.model and models:
        chosen = models[0]
        query = replace(query, model=chosen.slug)
    features: tuple[SteerFeature, ...] = ()
    if chosen and query.edits and error is None:
        try:
            features = asks.steer_features(query)
        except FacetError as unknown:
            error = asks.page_error(unknown)
    return SteerView(
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
        error=error,
    )


def _query(params: QueryDict) -> tuple[SteerQuery, PageError | None]:
    try:
        return SteerQuery.from_params(params), None
    except FacetError as error:
        return SteerQuery(model=params.get("model", ""), text=params.get("text", "")), asks.page_error(error)


def _of_model(query: SteerQuery, view: SteerView) -> SteerQuery:
    return replace(query, model=view.model.slug) if view.model else query


def _waited(view: SteerView, query: SteerQuery) -> SteerView:
    try:
        job = asks.start_steering(_of_model(query, view))
        return replace(view, result=asks.steering_result(job))
    except FacetError as error:
        return replace(view, error=asks.page_error(error))
