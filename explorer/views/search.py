"""Search over explanations, tokens and contexts; and the palette of the bar."""

from __future__ import annotations

import re

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from features import selectors
from features.results import FeatureRow, SearchResults
from inference.errors import InvalidInput

MAX_QUERY = 200
PALETTE_ROWS = 8
_ADDRESS = re.compile(r"/?([\w.-]+)/([\w.-]+)/(\d{1,9})")
_SHORT = re.compile(r"([\w.-]+)/(\d{1,9})")


@require_safe
def search(request: HttpRequest) -> HttpResponse:
    """Show what matches, by kind of evidence; the palette gets the best few of each."""
    query = request.GET.get("q", "").replace("\0", "").strip()
    if request.htmx and request.GET.get("palette"):
        return _palette(request, query[:MAX_QUERY])
    if len(query) > MAX_QUERY:
        raise InvalidInput(f"A search has at most {MAX_QUERY} characters.", "Search for a part of it.")
    results = selectors.search(query) if query else None
    context = {"query": query, "results": results, "n_hits": _n_hits(results), "place": "search"}
    return render(request, "search.html", context, status=200)


def _palette(request: HttpRequest, query: str) -> HttpResponse:
    if not query:
        return HttpResponse("")
    rows: list[tuple[FeatureRow, str]] = []
    if len(query) > 1:
        results = selectors.search(query, limit=PALETTE_ROWS, in_contexts=False)
        for why, found in (
            ("explanation", results.explanations),
            ("peaks on it", results.peak_tokens),
            ("promotes it", results.promoted_tokens),
        ):
            rows += [(row, why) for row in found]
    seen: set[str] = set()
    rows = [pair for pair in rows if not (pair[0].url in seen or seen.add(pair[0].url))]
    context = {"query": query, "places": _places(query), "rows": rows[:PALETTE_ROWS]}
    return render(request, "_palette.html", context)


def _places(query: str) -> list[tuple[str, str, str]]:
    """Return models, dictionaries and features whose address matches: (name, address, note)."""
    cards = selectors.source_cards()
    places = []
    for card in cards:
        for pattern in (_ADDRESS, _SHORT):
            match = pattern.fullmatch(query)
            if match and match[match.lastindex - 1] == card.source and int(match[match.lastindex]) < card.n_features:
                places.append(
                    (f"{card.source}/{match[match.lastindex]}", f"{card.url}/{match[match.lastindex]}", "feature")
                )
        if query.isdigit() and int(query) < card.n_features:
            places.append((f"{card.source}/{int(query)}", f"{card.url}/{int(query)}", f"feature of {card.model}"))
        elif query.lower() in card.source.lower():
            places.append((card.source, card.url, f"{card.architecture} of {card.model}, {card.n_features:,} features"))
    for model in sorted({card.model for card in cards}):
        if query.lower() in model.lower():
            places.append((model, f"/{model}", "model"))
    return list(dict.fromkeys(places))[:6]


def _n_hits(results: SearchResults | None) -> int:
    if results is None:
        return 0
    kinds = (results.explanations, results.peak_tokens, results.promoted_tokens, results.contexts)
    return sum(len(kind) for kind in kinds)
