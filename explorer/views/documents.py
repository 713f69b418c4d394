"""Corpora, and their documents with lines as anchors."""

from __future__ import annotations

from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from features import selectors


@require_safe
def corpus(request: HttpRequest, corpus: str) -> HttpResponse:
    """Show a corpus: its documents, those that were skipped and why, and the contexts that tokenizers made of it."""
    text, skipped, number = request.GET.get("text", ""), request.GET.get("skipped") == "1", request.GET.get("page", "1")
    asked = int(number) if number.isascii() and number.isdigit() and len(number) < 8 else 1
    page = selectors.corpus_page(corpus, text=text[:200], skipped=skipped, page=asked)

    def link(to: int) -> str:
        pairs = {"text": text, "skipped": "1" if skipped else "", "page": str(to) if to > 1 else ""}
        query = urlencode({name: value for name, value in pairs.items() if value})
        return f"{page.corpus.url}?{query}" if query else page.corpus.url

    shown = page.documents
    context = {
        "page": page,
        "text": text,
        "skipped": skipped,
        "n_skipped": sum(n for _, n in page.skipped),
        "previous_page": link(shown.number - 1) if shown.number > 1 else "",
        "next_page": link(shown.number + 1) if shown.number < shown.n_pages else "",
        "crumbs": [(page.corpus.name, "")],
    }
    return render(request, "corpus.html", context)


@require_safe
def document(request: HttpRequest, corpus: str, ordinal: int) -> HttpResponse:
    """Show a document; `?lines=12-20` lights a stretch of it."""
    page = selectors.document(corpus, ordinal)
    first, last = _lines(request.GET.get("lines", ""))
    context = {
        "page": page,
        "first": first,
        "last": last,
        "crumbs": [(page.corpus, f"/corpora/{page.corpus_slug}"), (page.name, "")],
    }
    return render(request, "document.html", context)


def _lines(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    if not (first.isascii() and first.isdigit()):
        return 0, -1
    return int(first), int(last) if last.isascii() and last.isdigit() else int(first)
