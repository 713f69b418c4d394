"""Real parts for the tests: an embedded Postgres and Valkey, Celery workers, uvicorn and Chromium.

Each starts when the first test asks for it and stops with the session. DATABASE_URL and REDIS_URL in the environment
replace the embedded servers; the tests then make a database of their own beside the named one and flush the named
Valkey database.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from explorer.local import addresses
from explorer.local.layout import Layout, lay_out


@pytest.fixture(scope="session")
def layout() -> Iterator[Layout]:
    """Folders for the embedded servers of this test session, removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="facet-tests-"))
    folder.chmod(0o755)  # as root, Postgres runs as another account
    yield lay_out(folder, durable=False)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> Iterator[str]:
    """A Postgres server; the value is a URL on it. Tests use `db` or `transactional_db`, which stand on it."""
    if url := os.environ.get("DATABASE_URL"):
        yield url
        return
    with request.getfixturevalue("layout").postgres.running() as url:
        yield url


@pytest.fixture(scope="session")
def valkey(request: pytest.FixtureRequest) -> Iterator[str]:
    """A Valkey server, which the settings and the Celery application point at; the value is its URL."""
    if url := os.environ.get("REDIS_URL"):
        yield url
        return
    from django.conf import settings

    from explorer.celery import app

    with request.getfixturevalue("layout").valkey.running() as url:
        settings.REDIS_URL = url
        settings.CELERY_BROKER_URL = app.conf.broker_url = addresses.broker(url)
        yield url


@pytest.fixture(scope="session")
def django_db_modify_db_settings(postgres: str) -> None:
    """Point Django at the server of this session before pytest-django makes the test database on it."""
    from django.db import connections

    wanted = addresses.database(postgres)
    settings = connections["default"].settings_dict
    settings.update({name: wanted[name] for name in ("NAME", "USER", "PASSWORD", "HOST", "PORT")})
