"""Exports that somebody asks for, and where their archives are."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import transaction

from features.models import Dictionary, Run
from features.selectors.suggestions import no_source
from features.services import runs
from features.services.checks import signed_in
from inference.errors import Conflict, InvalidInput, NotFound, Unavailable

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

FORMATS = ("neuronpedia", "parquet")
PHASES = ("write", "pack")


@transaction.atomic
def create_export(*, model: str, source: str, format: str, user: AbstractBaseUser | None) -> int:
    """Queue an export of a built dictionary; return the run's id.

    Raises SignInRequired, UnknownAddress, InvalidInput, Conflict for one without dashboards or that is being exported,
    and Unavailable where its format needs a package that is not here.
    """
    signed_in(user)
    if format not in FORMATS:
        raise InvalidInput(f"There is no format {format[:40]!r}.", f"Use one of {', '.join(FORMATS)}.", format=format)
    row = Dictionary.objects.select_for_update(of=("self",)).filter(model__slug=model, source=source).first()
    if row is None:
        raise no_source(model, source)
    if row.built_at is None:
        raise Conflict(f"The dashboards of {model}/{source} are not built yet.", "Build them first.", source=source)
    if format == "parquet" and find_spec("pyarrow") is None:
        raise Unavailable(
            "Parquet files are written by pyarrow, which is not installed.",
            "Install it beside Facet: pip install 'facet[parquet]', or export to another format.",
        )
    title = f"Export {model}/{source} ({format})"
    return runs.create(
        kind=Run.Kind.EXPORT, title=title, phases=PHASES, params={"format": format}, dictionaries=[row.pk], user=user
    )


def archive_of(*, run: int) -> tuple[Path, str]:
    """Return the archive of an export that is done, and the name to save it under; raise NotFound."""
    row = Run.objects.filter(id=run, kind=Run.Kind.EXPORT).first()
    path = Path(settings.FACET_EXPORTS) / f"run-{run}.tar"
    if row is None or row.state != Run.State.DONE or not path.is_file():
        raise NotFound(
            f"Run {run} has no archive to download.", "Export the dictionary again.", suggestions=["/runs"], run=run
        )
    return path, row.result["file"]
