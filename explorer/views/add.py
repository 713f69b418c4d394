"""Adding models, dictionaries and text: look at a path or a hub id first, then add what is there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from explorer import add_actions, asks
from explorer.run_actions import ACTIVE
from explorer.views.runs import whole_number
from features import selectors
from features.run_results import RunCard
from features.services.checks import signed_in
from inference.errors import FacetError, InvalidInput

TABS = (("dictionary", "Dictionary"), ("model", "Model"), ("corpus", "Text"), ("dashboards", "Dashboards"))


@require_http_methods(["GET", "HEAD", "POST"])
def dictionary(request: HttpRequest) -> HttpResponse:
    """Look at dictionaries (GET with `path`), or add those that are chosen (POST)."""
    signed_in(request.user)
    if request.method == "POST":
        paths = request.POST.getlist("dictionary")
        sources = request.POST.getlist("source")
        if not paths or len(sources) != len(request.POST.getlist("place")):
            raise InvalidInput("No dictionary is chosen.", "Tick at least one.")
        named = dict(zip(request.POST.getlist("place"), sources, strict=True))
        card = add_actions.add_dictionaries(
            path=request.POST.get("path", ""),
            model=request.POST.get("model", ""),
            sources={path: named.get(path, "").strip() for path in paths},
            release=request.POST.get("release", "").strip(),
            user=request.user,
        )
        return _after(request, card)
    asked = {name: request.GET.get(name, "").strip() for name in ("path", "match", "model")}
    return _looked(request, "dictionary", asked, add_actions.look_at_dictionaries)


@require_http_methods(["GET", "HEAD", "POST"])
def model(request: HttpRequest) -> HttpResponse:
    """Look at a model (GET with `path`), or add it (POST)."""
    signed_in(request.user)
    if request.method == "POST":
        fields = {name: request.POST.get(name, "").strip() for name in ("path", "name", "revision", "description")}
        return _after(request, add_actions.add_model(user=request.user, **fields))
    asked = {name: request.GET.get(name, "").strip() for name in ("path", "revision")}
    return _looked(request, "model", asked, add_actions.look_at_model)


@require_http_methods(["GET", "HEAD", "POST"])
def corpus(request: HttpRequest) -> HttpResponse:
    """Look at text (GET with `path`), or add it (POST)."""
    signed_in(request.user)
    if request.method == "POST":
        names = ("path", "name", "glob", "field", "description")
        fields = {name: request.POST.get(name, "").strip() for name in names}
        card = add_actions.add_corpus(user=request.user, limit=whole_number(request.POST, "limit"), **fields)
        return _after(request, card)
    asked = {name: request.GET.get(name, "").strip() for name in ("path", "glob", "field", "name")}
    return _looked(request, "corpus", asked, add_actions.look_at_corpus)


@require_POST
def download(request: HttpRequest) -> HttpResponse:
    """Fetch a hub id in a run, so that one can look at it."""
    signed_in(request.user)
    fields = {name: request.POST.get(name, "").strip() for name in ("path", "what", "match", "model")}
    return _after(request, add_actions.download(user=request.user, **fields))


def _looked(request: HttpRequest, what: str, asked: dict[str, str], look: Callable[..., Any]) -> HttpResponse:
    """Show the form with what was found; htmx gets what was found alone. What is wrong is shown in its place."""
    found, error = None, None
    if asked["path"]:
        try:
            found = look(user=request.user, **asked)
        except FacetError as wrong:
            if request.htmx:
                raise
            error = wrong
    context = {
        "what": what,
        "tabs": TABS,
        "asked": asked,
        "look": found,
        "error": error,
        "page_error": asks.page_error(error) if error else None,
        "models": selectors.home().models,
        "place": "add",
        "crumbs": [("Add", "")],
    }
    template = f"_look_{what}.html" if request.htmx else "add.html"
    return render(request, template, context, status=error.status if error else 200)


def _after(request: HttpRequest, card: RunCard) -> HttpResponse:
    """Go to what was added, or to the run that is still at it."""
    done = card.state not in ACTIVE and not card.error
    address = card.links[0] if done and len(card.links) == 1 else card.url
    if request.htmx:
        response = HttpResponse(status=204)
        response["HX-Redirect"] = address
        return response
    return redirect(address)
