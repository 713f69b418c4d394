"""Valkey stops and comes back: pages say so, workers and pages recover by themselves."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

import pytest

from explorer.local import children, ports
from explorer.local.valkey import Valkey
from tests.explorer.live.test_http import Client, events_of
from tests.processes import Workers, start_web

RECOVERY_SECONDS = 60
PROMPT = {"model": "tiny", "text": "def f(x):", "top": 3}
STEER = {"model": "tiny", "text": "def f", "n_tokens": 240, "edits": [{"source": "2-res-jump", "index": 3}]}


@dataclass(slots=True, kw_only=True)
class Deployment:
    """A Valkey that may be stopped, and the processes that stand on it."""

    server: Valkey
    child: Popen[bytes]
    client: Client

    def stop(self) -> None:
        self.server.stop(self.child)

    def start(self) -> None:
        self.server.prepare()
        self.child = self.server.start()


@pytest.fixture
def deployment(world, process_env, tmp_path) -> Iterator[Deployment]:
    """Web, engine worker and Valkey of one test."""
    folder = Path(tempfile.mkdtemp(prefix="facet-outage-"))  # short: the path of a socket has 108 bytes at most
    server = Valkey(data=folder / "data", socket=folder / "socket", log=tmp_path / "valkey.log", durable=False)
    server.prepare()
    child = server.start()
    env = process_env | {"REDIS_URL": server.url}
    workers = Workers(env=env, logs=tmp_path)
    web = None
    try:
        workers.start("engine")
        port = ports.free()
        web = start_web(env=env, log=tmp_path / "web.log", port=port)
        deployed = Deployment(server=server, child=child, client=Client(f"http://127.0.0.1:{port}"))
        yield deployed
        child = deployed.child
    finally:
        workers.stop()
        if web is not None:
            children.stop(web, seconds=5)
        server.stop(child)
        shutil.rmtree(folder, ignore_errors=True)


def test_what_needs_valkey_says_so_and_works_again_afterwards(deployment):
    client = deployment.client
    assert client.json("POST", "/api/v1/prompt", PROMPT)[0] == 200
    _, job = client.json("POST", "/api/v1/steer", STEER)
    stream = events_of(client.open("GET", job["events_url"]))
    assert next(event for event in stream if event["event"] == "token")

    deployment.stop()
    begin = time.monotonic()
    status, answer = client.json("POST", "/api/v1/prompt", PROMPT)
    assert (status, answer["error"]["code"]) == (503, "valkey-gone")
    assert time.monotonic() - begin < 8
    assert client.open("GET", "/").status == 200
    runs = client.open("GET", "/runs")
    assert runs.status == 200
    assert "Valkey" in runs.read().decode()

    deployment.start()
    deadline = time.monotonic() + RECOVERY_SECONDS
    while (status := client.json("POST", "/api/v1/prompt", PROMPT)[0]) != 200:
        assert time.monotonic() < deadline, status
        time.sleep(0.5)

    # Tokens that were sent while Valkey was away are gone with it: the reader is told how the job ended.
    last = list(stream)[-1]
    assert last["event"] in ("done", "error"), last
    if last["event"] == "error":
        assert json.loads(last["data"])["code"] in ("job-unknown", "valkey-gone")
