"""Files that travel: a feature or a list as one file, and the archive of an export."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from explorer import transfer_actions
from explorer.views.add import TABS
from explorer.views.runs import require_account
from features import selectors


@require_safe
def feature_file(request: HttpRequest, model: str, source: str, index: int) -> HttpResponse:
    """Save a feature as one HTML file."""
    return transfer_actions.saved_feature(request, model, source, index)


@require_safe
def list_file(request: HttpRequest, list_id: int) -> HttpResponse:
    """Save a list with its features as one HTML file."""
    return transfer_actions.saved_list(request, list_id, request.user)


@require_safe
def run_download(request: HttpRequest, run_id: int) -> HttpResponseBase:
    """Hand out the archive of an export."""
    return transfer_actions.archive(run_id)


@require_http_methods(["GET", "HEAD", "POST"])
def import_features(request: HttpRequest) -> HttpResponse:
    """Ask for what to import; posting starts the run."""
    if request.method != "POST":
        context = {"what": "dashboards", "tabs": TABS, "models": selectors.home().models, "place": "add"}
        return render(request, "add_dashboards.html", context | {"crumbs": [("Add", "")]})
    require_account(request)
    card = transfer_actions.create_import(
        place=request.POST.get("place", ""),
        model=request.POST.get("model", "").strip(),
        source=request.POST.get("source", "").strip(),
        user=request.user,
    )
    return redirect(card.url)


@require_POST
def export_source(request: HttpRequest, model: str, source: str) -> HttpResponse:
    """Start an export of a dictionary."""
    require_account(request)
    card = transfer_actions.create_export(
        model=model, source=source, format=request.POST.get("format", ""), user=request.user
    )
    return redirect(card.url)
