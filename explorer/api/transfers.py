"""Files that travel: imports and exports of dashboards, and features and lists as single HTML files."""

from __future__ import annotations

from typing import Literal

from django.http import FileResponse, HttpRequest, HttpResponse
from ninja import Field, Router, Schema, Status

from explorer import transfer_actions
from explorer.api.auth import SIGNED_IN, caller, reader
from features.run_results import RunCard

router = Router(tags=["transfers"])


class ImportIn(Schema):
    """What to import: a folder or an archive on the machine of the workers, or a URL of an archive."""

    place: str = Field(min_length=1, max_length=2000)
    model: str = Field("", max_length=80)
    source: str = Field("", max_length=80)


class ExportIn(Schema):
    """Which dictionary to export, and how."""

    model: str
    source: str
    format: Literal["neuronpedia", "parquet"] = "neuronpedia"


@router.post("/imports", response={201: RunCard}, auth=SIGNED_IN, operation_id="create_import")
def create_import(request: HttpRequest, body: ImportIn) -> Status[RunCard]:
    """Import dashboards that others made; docs/files.md has the layouts."""
    card = transfer_actions.create_import(place=body.place, model=body.model, source=body.source, user=caller(request))
    return Status(201, card)


@router.post("/exports", response={201: RunCard}, auth=SIGNED_IN, operation_id="create_export")
def create_export(request: HttpRequest, body: ExportIn) -> Status[RunCard]:
    """Write a dictionary's dashboards to an archive."""
    card = transfer_actions.create_export(
        model=body.model, source=body.source, format=body.format, user=caller(request)
    )
    return Status(201, card)


@router.get("/runs/{int:run_id}/download", operation_id="download_export")
def download(request: HttpRequest, run_id: int) -> FileResponse:
    """Return the archive of an export that is done."""
    return transfer_actions.archive(run_id)


@router.get("/features/{model}/{source}/{int:index}/file", operation_id="feature_file")
def feature_file(request: HttpRequest, model: str, source: str, index: int) -> HttpResponse:
    """Return a feature as one HTML file that needs no server."""
    return transfer_actions.saved_feature(request, model, source, index)


@router.get("/lists/{int:list_id}/file", operation_id="list_file")
def list_file(request: HttpRequest, list_id: int) -> HttpResponse:
    """Return a list with its features as one HTML file that needs no server."""
    return transfer_actions.saved_list(request, list_id, reader(request))
