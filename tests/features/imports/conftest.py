"""Files to import, written by Facet's own export of a real pass, and the ways to import them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from features import services
from features.exports.neuronpedia import write_neuronpedia
from features.jobs import work
from features.models import Run
from tests.features.conftest import World
from tests.features.imports.serving import Server, serving


@pytest.fixture
def exported(world: World, tmp_path: Path) -> Path:
    """Export a dictionary of the world; return the folder that holds `MODEL/SOURCE/`."""
    write_neuronpedia("tiny", "1-res-topk", tmp_path / "export")
    return tmp_path / "export"


@pytest.fixture
def import_from(settings, tmp_path: Path) -> Callable[..., Run]:
    """Return a function that imports a place in this process and returns the run when it is over."""
    settings.FACET_BUILDS = tmp_path / "builds"

    def import_place(place: Path | str, *, model: str = "", source: str = "", run: int | None = None) -> Run:
        if run is None:
            run = services.imports.create_import(place=str(place), model=model, source=source)
        else:
            services.runs.resume(run=run)
        work(run)
        return Run.objects.get(id=run)

    return import_place


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Serve an empty folder."""
    root = tmp_path / "served"
    root.mkdir()
    with serving(root) as state:
        yield state
