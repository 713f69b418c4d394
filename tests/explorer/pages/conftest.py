"""A built site for the tests of this folder that ask for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.site import Site, built_site


@pytest.fixture(scope="package")
def site(django_db_setup: None, django_db_blocker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The site, committed; tests that use it are marked `django_db`, which rolls back what they write."""
    with django_db_blocker.unblock(), built_site(tmp_path_factory.mktemp("site")) as made:
        yield made
