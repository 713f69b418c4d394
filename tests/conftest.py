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

from explorer.local import addresses, children, ports
from explorer.local.layout import Layout, lay_out
from tests.processes import Workers, start_web

pytest_plugins = ("tests.interop.forwarding",)

CHROMIUM = shutil.which(os.environ.get("FACET_CHROMIUM", "chromium"))
# Nothing that reaches for another host, and nothing that a machine without a screen lacks.
CHROMIUM_ARGUMENTS = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-sync",
    "--no-first-run",
]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run tests with workers after those without, and tests with a browser last.

    A worker would empty the queues that other tests look into, and Playwright keeps an event loop running in the main
    thread, beside which no test can start one of its own. The sort keeps pytest-django's order within each group.
    """

    def group(item: pytest.Item) -> int:
        fixtures = set(getattr(item, "fixturenames", ()))
        return 2 if "browser" in fixtures else 1 if "worker" in fixtures else 0

    items.sort(key=group)


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


@pytest.fixture(scope="session", autouse=True)
def local_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What this session keeps instead of the checkout's .local; children that it starts use the same folders.

    Builds take up finished shards that lie in their folder: in a shared one, a session that runs beside this one, or
    that was killed, would make parts of this one's builds.
    """
    from django.conf import settings

    folder = tmp_path_factory.mktemp("local")
    settings.FACET_BUILDS = str(folder / "builds")
    settings.FACET_CORPORA, settings.FACET_EXPORTS = folder / "corpora", folder / "exports"
    return folder


@pytest.fixture(scope="session")
def process_env(django_db_setup: None, valkey: str, local_folder: Path) -> dict[str, str]:
    """The environment of child processes: the test database, the test Valkey, and the folders of this session."""
    from django.conf import settings
    from django.db import connections

    return {
        **os.environ,
        "DATABASE_URL": addresses.database_url(connections["default"].settings_dict),
        "REDIS_URL": valkey,
        "FACET_LOCAL": str(local_folder),
        **{name: str(getattr(settings, name)) for name in ("FACET_BUILDS", "FACET_CORPORA", "FACET_EXPORTS")},
        "FACET_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }


@pytest.fixture(scope="session")
def worker(process_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    """Real Celery workers for both queues. What they read must be committed: use `transactional_db` with it."""
    workers = Workers(env=process_env, logs=tmp_path_factory.mktemp("logs"))
    try:
        workers.start("engine", "batch")
        yield workers
    finally:
        workers.stop()


@pytest.fixture(scope="session")
def server(process_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real uvicorn; the value is its address. What it reads must be committed: use `transactional_db` with it."""
    port = ports.free()
    child = start_web(env=process_env, log=tmp_path_factory.mktemp("logs") / "web.log", port=port)
    yield f"http://127.0.0.1:{port}"
    children.stop(child, seconds=5)


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, object]) -> dict[str, object]:
    """Drive the system's Chromium, and let tests use the database beside Playwright's event loop."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium: install the system's package `chromium`, or set FACET_CHROMIUM to its path")
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium's sandbox refuses to run as root
    return {**browser_type_launch_args, "executable_path": CHROMIUM, "args": [*CHROMIUM_ARGUMENTS, *sandbox]}
