"""Features and lists as one HTML file each, which shows everything without a server, a network or a folder beside it.

The file is made of the site's own fragments and stylesheets. Links lead to features of the same file, or to the
deployment that wrote it where its address is known; others are taken away.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from django.contrib.staticfiles import finders
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.safestring import SafeString, mark_safe

from features import selectors
from features.results import ExampleGroup, FeatureCard
from inference.errors import NotFound

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

STYLESHEETS = ("base", "ramps", "layout", "components", "pages", "export")
MOST_FEATURES = 300
# Examples of a group: all that a build keeps where the page is of one feature, the strongest where it is of many.
ALL_EXAMPLES, FEW_EXAMPLES = 60, 4
_LINK = re.compile(r' href="(/[^"]*)"')
_ID = re.compile(r' (id|aria-labelledby|aria-controls)="([\w-]+)"')
SCRIPT = """
document.documentElement.classList.add("scripted");
document.querySelector("[data-theme-switch]").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});
document.addEventListener("pointerover", (event) => {
  const token = event.target.closest("i[data-v]");
  if (token) token.title = token.dataset.v;
});
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A feature of a page: where it is in it, and its part of it."""

    anchor: str
    feature: FeatureCard
    body: SafeString


def feature_page(model: str, source: str, index: int, *, base_url: str = "") -> str:
    """Return the page of a feature; raise what its own page raises."""
    card = selectors.feature_card(model, source, index)
    groups = selectors.example_groups(card.source.id, index, ALL_EXAMPLES)
    entry = _entry(card, groups, anchors={}, base_url=base_url)
    title = f"{index} · {card.label or 'no label yet'}"
    return _page([entry], title=title, subtitle=f"{model}/{source}", url=card.url, base_url=base_url)


def list_page(list_id: int, *, user: AbstractBaseUser | None = None, base_url: str = "") -> str:
    """Return the page of a list with its features in order, the first MOST_FEATURES; raise NotFound."""
    first = selectors.feature_list(list_id, user)
    pages = [first, *(selectors.feature_list(list_id, user, page=n + 1) for n in range(1, first.features.n_pages))]
    members = [(row, note) for page in pages for row, note in zip(page.features.rows, page.notes, strict=True)][
        :MOST_FEATURES
    ]
    anchors = {row.url: _anchor(row.model, row.source, row.index) for row, _ in members}
    entries = []
    for row, note in members:
        try:
            card = selectors.feature_card(row.model, row.source, row.index, user)
        except NotFound:
            continue  # its dictionary is not built, or was built anew without it
        groups = selectors.example_groups(card.source.id, row.index, FEW_EXAMPLES)
        entries.append(_entry(card, groups, anchors=anchors, base_url=base_url, note=note))
    return _page(
        entries,
        title=first.card.name,
        subtitle=first.card.description,
        url=first.card.url,
        base_url=base_url,
        left_out=first.features.total - len(entries),
    )


def file_name(*parts: object) -> str:
    """Return a name for a saved page."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", "-".join(map(str, parts))).strip("-") + ".html"


def _entry(
    card: FeatureCard,
    groups: Sequence[ExampleGroup],
    *,
    anchors: Mapping[str, str],
    base_url: str,
    note: str = "",
) -> Entry:
    anchor = _anchor(card.source.model, card.source.source, card.index)
    context = {
        "feature": card,
        # What is here is all that the file has, and documents stay where they are.
        "groups": [
            replace(
                group,
                total=len(group.examples),
                examples=tuple(replace(example, document_url="") for example in group.examples),
            )
            for group in groups
        ],
        "reach": max((abs(effect.value) for effect in (*card.promoted, *card.suppressed)), default=1.0),
        "note": note,
    }
    html = render_to_string("_exported_feature.html", context)

    def link(match: re.Match[str]) -> str:
        if match[1] in anchors:
            return f' href="#{anchors[match[1]]}"'
        return f' href="{base_url}{match[1]}"' if base_url else ""

    html = _ID.sub(lambda match: f' {match[1]}="{_named(anchor, match[2])}"', _LINK.sub(link, html))
    return Entry(anchor=anchor, feature=card, body=mark_safe(html))


def _page(entries: Sequence[Entry], *, title: str, subtitle: str, url: str, base_url: str, left_out: int = 0) -> str:
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    return render_to_string(
        "export.html",
        {
            "entries": entries,
            "title": title,
            "subtitle": subtitle,
            "url": url,
            "base_url": base_url,
            "left_out": left_out,
            "saved_at": timezone.now(),
            "css": _stylesheet(),
            "script": SCRIPT,
            "policy": mark_safe(f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"),
        },
    )


def _stylesheet() -> str:
    return "".join(Path(finders.find(f"css/{name}.css")).read_text(encoding="utf-8") for name in STYLESHEETS)


def _anchor(model: str, source: str, index: int) -> str:
    return f"f-{model}-{source}-{index}"


def _named(anchor: str, name: str) -> str:
    return anchor if name == "feature" else f"{anchor}-{name}"
