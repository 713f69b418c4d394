"""The small world of live tests."""

from __future__ import annotations

import pytest

from tests.explorer.world import Folders, make_folders, register


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """A random model and two dictionaries on disk."""
    return make_folders(tmp_path_factory.mktemp("world"))


@pytest.fixture
def world(folders: Folders, transactional_db: None):
    """The same, registered and committed, so that workers see it; dictionaries by source."""
    return register(folders)
