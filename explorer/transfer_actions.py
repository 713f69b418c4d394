"""What pages and the API do with files that travel: start imports and exports, hand out archives and saved pages."""

from __future__ import annotations

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.http import FileResponse, HttpRequest, HttpResponse

from explorer.run_actions import send
from features import selectors, services
from features.exports import pages
from features.run_results import RunCard
from features.services.checks import may_add


def create_import(*, place: str, model: str = "", source: str = "", user: AbstractBaseUser) -> RunCard:
    """Store an import of a folder, an archive or a URL, and send it to the batch workers.

    Raises NotAllowed where the account may not make this machine read the place, and what the service raises.
    """
    may_add(user, place)
    with transaction.atomic():
        run_id = services.imports.create_import(place=place, model=model, source=source, user=user)
        transaction.on_commit(lambda: send(run_id))
    return selectors.run(run_id)


def create_export(*, model: str, source: str, format: str, user: AbstractBaseUser) -> RunCard:
    """Store an export of a dictionary, and send it to the batch workers."""
    with transaction.atomic():
        run_id = services.exports.create_export(model=model, source=source, format=format, user=user)
        transaction.on_commit(lambda: send(run_id))
    return selectors.run(run_id)


def archive(run_id: int) -> FileResponse:
    """Return the archive of an export that is done."""
    path, name = services.exports.archive_of(run=run_id)
    return FileResponse(path.open("rb"), as_attachment=True, filename=name, content_type="application/x-tar")


def saved_feature(request: HttpRequest, model: str, source: str, index: int) -> HttpResponse:
    """Return a feature as one HTML file."""
    html = pages.feature_page(model, source, index, base_url=_base_url(request))
    return _saved(html, pages.file_name(model, source, index))


def saved_list(request: HttpRequest, list_id: int, user: AbstractBaseUser | None) -> HttpResponse:
    """Return a list with its features as one HTML file."""
    html = pages.list_page(list_id, user=user, base_url=_base_url(request))
    return _saved(html, pages.file_name("list", list_id))


def _base_url(request: HttpRequest) -> str:
    return request.build_absolute_uri("/").rstrip("/")


def _saved(html: str, name: str) -> HttpResponse:
    response = HttpResponse(html, content_type="text/html; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response
