"""What people write about a feature: labels, votes, comments, lists. Each answers the panel that it changed."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST

from explorer.views.features import page_context
from features import selectors, services
from inference.errors import Conflict, InvalidInput, SignInRequired


@require_POST
def label(request: HttpRequest, model: str, source: str, index: int) -> HttpResponse:
    """Give the feature a label."""
    _require_user(request)
    card = selectors.source_card(model, source)
    services.explanations.label(user=request.user, dictionary=card.id, index=index, text=request.POST.get("text", ""))
    return _panel(request, "_explanations.html", model, source, index, swap_title=True)


@require_POST
def vote(request: HttpRequest, model: str, source: str, index: int, explanation: int) -> HttpResponse:
    """Vote for or against an explanation; 0 takes the vote back."""
    _require_user(request)
    value = {"1": 1, "-1": -1, "0": 0}.get(request.POST.get("value", ""))
    if value is None:
        raise InvalidInput("A vote is 1, 0 or -1.", "Use the arrows beside the explanation.")
    services.votes.cast(user=request.user, explanation=explanation, value=value)
    return _panel(request, "_explanations.html", model, source, index, swap_title=True)


@require_POST
def label_delete(request: HttpRequest, model: str, source: str, index: int, explanation: int) -> HttpResponse:
    """Delete one's own label."""
    _require_user(request)
    services.explanations.delete(user=request.user, explanation=explanation)
    return _panel(request, "_explanations.html", model, source, index, swap_title=True)


@require_POST
def comment(request: HttpRequest, model: str, source: str, index: int) -> HttpResponse:
    """Add a comment."""
    _require_user(request)
    card = selectors.source_card(model, source)
    services.comments.add(user=request.user, dictionary=card.id, index=index, text=request.POST.get("text", ""))
    return _panel(request, "_comments.html", model, source, index)


@require_POST
def comment_delete(request: HttpRequest, model: str, source: str, index: int, comment: int) -> HttpResponse:
    """Delete one's own comment."""
    _require_user(request)
    services.comments.delete(user=request.user, comment=comment)
    return _panel(request, "_comments.html", model, source, index)


@require_POST
def feature_lists(request: HttpRequest, model: str, source: str, index: int) -> HttpResponse:
    """Put the feature on a list (made when its name is new), or take it off."""
    _require_user(request)
    card = selectors.source_card(model, source)
    member = {"user": request.user, "dictionary": card.id, "index": index}
    if request.POST.get("list", "").isdigit():
        chosen = int(request.POST["list"])
    else:
        chosen = _list_named(request, request.POST.get("name", "").strip())
    if request.POST.get("change") == "remove":
        services.lists.remove_member(list=chosen, **member)
    else:
        services.lists.add_member(list=chosen, **member)
    return _panel(request, "_lists_of_feature.html", model, source, index)


def _list_named(request: HttpRequest, name: str) -> int:
    try:
        return services.lists.create(user=request.user, name=name).pk
    except Conflict as known:
        return int(known.details["list"])


def _require_user(request: HttpRequest) -> None:
    if not request.user.is_authenticated:
        raise SignInRequired("Writing needs an account.", "Sign in first; reading is open to all.")


def _panel(
    request: HttpRequest, template: str, model: str, source: str, index: int, *, swap_title: bool = False
) -> HttpResponse:
    """Answer the panel as it now is, or the page to browsers without scripts."""
    if not request.htmx:
        return redirect(f"/{model}/{source}/{index}")
    card = selectors.feature_card(model, source, index, request.user)
    mine = tuple(found for found in selectors.lists(request.user) if found.mine)
    context = page_context(card) | {"swap_title": swap_title, "my_lists": mine}
    return render(request, template, context)
