"""Pages while Postgres or Valkey is away, and after it is back: the same web process recovers by itself."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from explorer.local import children, ports
from explorer.local.layout import CHECKOUT, Layout, lay_out
from tests.processes import start_web

LIMIT_SECONDS = 20


@pytest.fixture
def layout(local: Path) -> Layout:
    layout = lay_out(local, durable=False)
    layout.postgres.prepare()
    layout.valkey.prepare()
    return layout


@pytest.fixture
def web(layout: Layout) -> Iterator[str]:
    """A web process on servers that this test starts and stops."""
    env = {
        **os.environ,
        "DATABASE_URL": layout.postgres.url,
        "REDIS_URL": layout.valkey.url,
        "FACET_LOCAL": str(layout.local),
    }
    with layout.postgres.running():
        subprocess.run([sys.executable, "-m", "explorer.local.prepare"], cwd=CHECKOUT, env=env, check=True)
    port = ports.free()
    child = start_web(env=env, log=layout.logs / "web.log", port=port)
    yield f"http://127.0.0.1:{port}"
    children.stop(child)


def get(url: str) -> tuple[int, str]:
    try:
        with urlopen(url, timeout=30) as response:
            return response.status, response.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()


def seconds_until(status: int, url: str) -> float:
    started = time.monotonic()
    while get(url)[0] != status:
        assert time.monotonic() - started < LIMIT_SECONDS
        time.sleep(0.2)
    return time.monotonic() - started


def test_pages_recover_when_postgres_is_back(layout: Layout, web: str) -> None:
    with layout.valkey.running():
        with layout.postgres.running():
            assert get(f"{web}/lists")[0] == 200
        for address in ("/lists", "/api/v1/runs"):
            started = time.monotonic()
            status, body = get(web + address)
            assert (status, "database does not answer" in body) == (503, True), body[:2000]
            assert time.monotonic() - started < 10
        time.sleep(12)  # longer than the pool keeps trying by itself
        with layout.postgres.running():
            assert seconds_until(200, f"{web}/lists") < LIMIT_SECONDS
            assert [get(f"{web}/lists")[0] for _ in range(10)] == [200] * 10


def test_pages_that_need_no_worker_stay_while_valkey_is_away(layout: Layout, web: str) -> None:
    with layout.postgres.running():
        assert get(f"{web}/lists")[0] == 200
        assert get(f"{web}/prompt")[0] == 200
