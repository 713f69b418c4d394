"""Every component from fixtures, and whole pages of them: what screenshots and checks of the look stand on."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from explorer import charts, patterns
from explorer.ramps import LEVELS
from explorer.views import features, models, sources
from features.results import SourceFilters
from inference.errors import NotFound


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """Show all components on one page."""
    card = patterns.feature_card()
    context = features.page_context(card) | {
        "levels": range(LEVELS + 1),
        "groups": patterns.example_groups(),
        "examples": [patterns.example(text) for text in patterns.TEXTS],
        "rows": patterns.feature_rows(),
        "source": patterns.source_card(),
        "dead_share": 14 / 2048,
        "runs": patterns.run_cards(),
        "shards": patterns.shards(),
        "traced": patterns.traced_text(),
        "results": patterns.search_results(),
        "problem": NotFound(
            "There is no source '2-res-jmp'.", "Choose one of those that exist.", suggestions=["/patterns"]
        ),
        "pages": sorted(PAGES),
        "crumbs": [("Patterns", "")],
        "tool_query": "",
    }
    return render(request, "patterns.html", context)


@require_safe
def page(request: HttpRequest, name: str) -> HttpResponse:
    """Show one whole page from fixtures."""
    if name not in PAGES:
        raise NotFound(f"There is no page {name!r} of fixtures.", "Choose one.", suggestions=["/patterns"])
    return PAGES[name](request)


def _feature(request: HttpRequest) -> HttpResponse:
    card = patterns.feature_card()
    context = features.page_context(card) | {
        "groups": patterns.example_groups(),
        "rail": patterns.feature_rows(1195, 28),
        "test_text": "",
        "previous_url": "#",
        "next_url": "#",
    }
    return render(request, "feature.html", context)


def _source(request: HttpRequest) -> HttpResponse:
    card, filters = patterns.source_card(), SourceFilters()
    context = {
        "source": card,
        "filters": filters,
        "page": patterns.page_of_rows(),
        "sorts": sources.sort_links(card.url, filters),
        **sources.page_links(card.url, filters, 1, 41),
        "densities": patterns.densities(),
        "errors": patterns.errors(),
        "median_error": charts.median_of(patterns.errors()),
        "figure": charts.density_figure(patterns.densities()),
        "dead_share": 14 / 2048,
        "states": sources.STATES,
        "orders": sources.ORDERS,
        "crumbs": [(card.model, f"/{card.model}"), (card.source, "")],
    }
    return render(request, "source.html", context)


def _model(request: HttpRequest) -> HttpResponse:
    cards = (patterns.source_card(),)
    sites, layers = models.layer_map(cards)
    card = patterns.model_card()
    context = {"model": card, "sources": cards, "sites": sites, "layers": layers, "crumbs": [(card.slug, "")]}
    return render(request, "model.html", context)


def _search(request: HttpRequest) -> HttpResponse:
    context = {"query": "raise", "results": patterns.search_results(), "n_hits": 6}
    return render(request, "search.html", context)


PAGES: dict[str, Callable[[HttpRequest], HttpResponse]] = {
    "feature": _feature,
    "source": sources.csp_update({"style-src": ["'unsafe-inline'"]})(_source),
    "model": _model,
    "search": _search,
}
