"""An export as a run: files are written, packed as one archive, and kept for download."""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path

from django.conf import settings

from features import services
from features.exports.neuronpedia import write_neuronpedia
from features.exports.parquet import write_parquet
from features.jobs import Reporter, Watcher, carry_out, silent
from features.models import Run
from inference.errors import NotFound

WRITERS = {"neuronpedia": write_neuronpedia, "parquet": write_parquet}


def run_export(run_id: int, *, watch: Watcher = silent) -> None:
    """Carry an export out; one that was interrupted begins anew (features.jobs)."""
    carry_out(run_id, _export, watch=watch)


def _export(run: Run, reporter: Reporter) -> None:
    row = run.dictionaries.select_related("model").first()
    if row is None:
        raise NotFound("What this run was to export is gone.", "Export another dictionary.")
    kind = run.params["format"]
    folder = Path(settings.FACET_EXPORTS) / f"run-{run.pk}"
    shutil.rmtree(folder, ignore_errors=True)
    model, source = row.model.slug, row.source
    WRITERS[kind](model, source, folder, tell=lambda done, total: reporter.at("write", done, total, "features"))
    reporter.at("pack", 0, 1, "archives")
    archive = folder.with_name(f"{folder.name}.tar")
    scratch = archive.with_suffix(".part")
    with tarfile.open(scratch, "w") as tar:
        tar.add(folder / model, model)
    os.replace(scratch, archive)
    shutil.rmtree(folder)
    reporter.at("pack", 1, 1, "archives")
    reporter.say(f"{archive.stat().st_size:,} bytes.")
    services.runs.record(
        run=run.pk,
        result={"file": f"{model}-{source}-{kind}.tar", "links": [f"/runs/{run.pk}/download"]},
    )
