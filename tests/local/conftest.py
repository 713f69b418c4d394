"""Folders that the account of Postgres can enter, with short paths."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def local() -> Iterator[Path]:
    """An empty folder in the place of `.local`."""
    folder = Path(tempfile.mkdtemp(prefix="facet-local-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
