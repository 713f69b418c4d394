"""Home, and the tray of runs in the bar of every page."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from django.core.cache import cache
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe

from features import selectors
from features.results import ExampleCard, FeatureRow, Home, SourceCard, SourceFilters

SAMPLES = 6
SAMPLE_SECONDS = 600
# Rare enough to mean something, and peaking on several tokens: seldom a single word's detector.
TELLING = SourceFilters(
    state="alive", density_low=2e-4, density_high=1e-2, entropy_low=0.8, entropy_high=2.2, sort="-maximum", per_page=40
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A feature worth opening first, with the strongest of its contexts."""

    row: FeatureRow
    example: ExampleCard | None

    @property
    def url(self) -> str:
        return self.row.url


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """Show what there is and what to do first."""
    page = selectors.home()
    by_model: dict[str, list[SourceCard]] = defaultdict(list)
    for card in selectors.source_cards() if page.models else ():
        by_model[card.model].append(card)
    return render(
        request,
        "home.html",
        {
            "home": page,
            "models": [(model, by_model[model.slug]) for model in page.models],
            "samples": samples(page),
            "random_url": reverse("random_feature", args=[page.latest[0].model, page.latest[0].source])
            if page.latest
            else "",
            "place": "home",
        },
    )


@require_safe
def tray(request: HttpRequest) -> HttpResponse:
    """Show the runs under way, for the bar."""
    active = [run for run in selectors.runs(limit=8) if run.state in ("queued", "running")]
    return render(request, "_tray.html", {"runs": active})


def samples(page: Home) -> tuple[Sample, ...]:
    """Return telling features of the dictionaries that were built last; they change with the builds."""
    if not page.latest:
        return ()
    key = "samples:" + ",".join(f"{card.id}@{card.built_at:%s}" for card in page.latest)
    found = cache.get(key)
    if found is None:
        found = tuple(_choose(page.latest))
        cache.set(key, found, SAMPLE_SECONDS)
    return found


def _choose(cards: tuple[SourceCard, ...]) -> list[Sample]:
    """Take the features in turns from the dictionaries, each with another peak token."""
    lists = [list(selectors.source_page(card.model, card.source, TELLING).features.rows) for card in cards]
    chosen: list[FeatureRow] = []
    seen: set[str] = set()
    while any(lists) and len(chosen) < SAMPLES:
        for rows in lists:
            while rows:
                row = rows.pop(0)
                peak = row.peak_tokens[0].strip() if row.peak_tokens else ""
                if row.label and peak and peak not in seen:
                    seen.add(peak)
                    chosen.append(row)
                    break
    return [_sample(row) for row in chosen[:SAMPLES]]


def _sample(row: FeatureRow) -> Sample:
    examples = selectors.example_group(row.dictionary, row.index, 0, limit=1).examples
    return Sample(row=row, example=examples[0] if examples else None)
