"""A document of a corpus, with its lines as anchors."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from features import selectors


@require_safe
def document(request: HttpRequest, corpus: str, ordinal: int) -> HttpResponse:
    """Show a document; `?lines=12-20` lights a stretch of it."""
    page = selectors.document(corpus, ordinal)
    first, last = _lines(request.GET.get("lines", ""))
    context = {"page": page, "first": first, "last": last, "crumbs": [(page.corpus, ""), (page.name, "")]}
    return render(request, "document.html", context)


def _lines(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    if not (first.isascii() and first.isdigit()):
        return 0, -1
    return int(first), int(last) if last.isascii() and last.isdigit() else int(first)
