"""Live pages and the API over HTTP: a real uvicorn, a real engine worker, a plain client."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPResponse
from urllib.parse import urlencode, urlsplit

import pytest

from explorer.live.events import DISCONNECTED_LEASE_SECONDS
from inference import streams

WAITING = 12  # more than the pool of the web process has connections
STEER = {
    "model": "tiny",
    "text": "def f",
    "n_tokens": 24,
    "seed": 3,
    "edits": [{"source": "2-res-jump", "index": 3, "strength": 20}],
}


class Client:
    """A client without a browser's help: one connection per request, so that a stream can be cut."""

    def __init__(self, address: str) -> None:
        self.host = urlsplit(address).netloc

    def open(self, method: str, path: str, body: str = "", **headers: str) -> HTTPResponse:
        connection = HTTPConnection(self.host, timeout=60)
        connection.request(method, path, body.encode() or None, headers)
        return connection.getresponse()

    def json(self, method: str, path: str, body: object = None) -> tuple[int, dict]:
        response = self.open(
            method, path, "" if body is None else json.dumps(body), **{"Content-Type": "application/json"}
        )
        text = response.read()
        return response.status, json.loads(text) if text else {}


def events_of(response: HTTPResponse) -> Iterator[dict[str, str]]:
    """Parse Server-Sent Events as they come."""
    event: dict[str, str] = {}
    for raw in response:
        line = raw.decode().rstrip("\n")
        if not line:
            if "event" in event:
                yield event
            event = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(": ")
            event[name] = f"{event[name]}\n{value}" if name in event else value


@pytest.fixture
def client(server) -> Client:
    return Client(server)


def test_a_generation_streams_and_resumes_after_the_last_event(world, worker, client):
    status, job = client.json("POST", "/api/v1/steer", STEER)
    assert status == 202
    response = client.open("GET", job["events_url"])
    assert response.headers["Content-Type"].startswith("text/event-stream")
    assert response.headers["Cache-Control"] == "no-store"
    first = []
    for event in events_of(response):
        first.append(event)
        if event["event"] == "token":
            break
    response.close()

    rest = list(events_of(client.open("GET", job["events_url"], **{"Last-Event-ID": first[-1]["id"]})))
    tokens = [json.loads(event["data"]) for event in [*first, *rest] if event["event"] == "token"]
    assert [(token["index"], token["row"]) for token in tokens] == [(i, row) for i in range(24) for row in (0, 1)]
    assert rest[-1]["event"] == "done"

    over = client.open("GET", job["events_url"], **{"Last-Event-ID": rest[-1]["id"]})
    assert over.status == 204


def test_waiting_gives_what_the_stream_gives(world, worker, client):
    status, result = client.json("POST", "/api/v1/steer", STEER | {"wait": True})
    assert status == 200
    assert [len(row["tokens"]) for row in result["rows"]] == [24, 24]
    _, job = client.json("POST", "/api/v1/steer", STEER)
    streamed = json.loads(list(events_of(client.open("GET", job["events_url"])))[-1]["data"])
    assert [row["text"] for row in streamed["rows"]] == [row["text"] for row in result["rows"]]


def test_a_reader_that_leaves_shortens_the_lease(world, worker, client, valkey):
    stored = streams.connect(valkey)
    pid = worker.running["engine"].pid
    os.kill(pid, signal.SIGSTOP)
    try:
        _, job = client.json("POST", "/api/v1/steer", STEER)
        response = client.open("GET", job["events_url"])
        next(event for event in events_of(response) if event["event"] == "queued")
        response.close()
        # By itself the lease, renewed while the reader was there, comes down to this later than the deadline.
        deadline = time.monotonic() + streams.LEASE_SECONDS - DISCONNECTED_LEASE_SECONDS - 0.5
        while stored.ttl(streams.lease_key(job["job_id"])) > DISCONNECTED_LEASE_SECONDS:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        os.kill(pid, signal.SIGCONT)


def test_who_waits_for_the_engine_holds_no_connection_to_postgres(world, worker, client):
    pid = worker.running["engine"].pid
    os.kill(pid, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(WAITING) as pool:
            waiting = [
                pool.submit(client.json, "POST", "/api/v1/prompt", {"model": "tiny", "text": "def f(x):"})
                for _ in range(WAITING)
            ]
            while client.json("GET", "/api/v1/workers")[1]["waiting"] < WAITING:
                time.sleep(0.05)
            assert client.open("GET", "/tiny").status == 200
            os.kill(pid, signal.SIGCONT)
            assert {future.result()[0] for future in waiting} == {200}
    finally:
        os.kill(pid, signal.SIGCONT)


def test_the_prompt_api_ranks_features(world, worker, client):
    status, result = client.json("POST", "/api/v1/prompt", {"model": "tiny", "text": "def f(x):", "top": 3})
    assert status == 200
    assert [feature["rank"] for feature in result["features"]] == [1, 2, 3]
    assert result["features"][0]["values"]


def test_the_activations_api_gives_one_value_per_token(world, worker, client):
    body = {"model": "tiny", "source": "1-res-topk", "indices": [1, 2], "text": "def f(x):"}
    status, result = client.json("POST", "/api/v1/activations", body)
    assert status == 200
    assert [len(one["values"]) for one in result] == [len(result[0]["tokens"])] * 2


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/api/v1/prompt", {"model": "tiny", "text": ""}, 422, "invalid-text"),
        ("/api/v1/prompt", {"model": "tiny", "text": "a\ud800"}, 422, "invalid-text"),
        ("/api/v1/prompt", {"model": "tiny", "text": "x" * 100_001}, 413, "text-too-large"),
        ("/api/v1/prompt", {"model": "tiny", "text": "word " * 600}, 413, "prompt-too-long"),
        ("/api/v1/prompt", {"model": "none", "text": "x"}, 404, "unknown-address"),
        ("/api/v1/prompt", {"model": "tiny", "txt": "x"}, 422, "invalid-input"),
        ("/api/v1/steer", STEER | {"edits": []}, 422, "invalid-input"),
        ("/api/v1/steer", STEER | {"edits": [{"source": "2-res-jump", "index": 10**6}]}, 404, "not-found"),
    ],
    ids=["empty", "surrogate", "large", "long", "model", "misspelt", "no-edits", "index"],
)
def test_bad_requests_have_one_form(world, worker, client, path, body, status, code):
    got, answer = client.json("POST", path, body)
    assert (got, answer["error"]["code"]) == (status, code)
    assert answer["error"]["cause"] and answer["error"]["remedy"] and answer["error"]["request_id"]


@pytest.mark.parametrize(
    "query",
    [
        {"model": "tiny", "text": "def f(x):", "run": "1", "source": "1-res-topk", "rank": "share", "density": "0.1"},
        {"model": "tiny", "text": "def f(x):\n  return", "run": "1", "at": "2-3"},
        {"model": "tiny"},
    ],
    ids=["run", "range", "empty"],
)
def test_the_prompt_page_works_without_scripts(world, worker, client, query):
    response = client.open("GET", f"/prompt?{urlencode(query)}")
    html = response.read().decode()
    assert response.status == 200, html[-2000:]
    assert ("/tiny/1-res-topk/" in html) == ("run" in query)


def test_the_steer_page_works_without_scripts(world, worker, client):
    page = client.open("GET", "/steer?model=tiny")
    cookie = page.headers["Set-Cookie"].partition(";")[0]
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.read().decode())[1]
    recipe = {"model": "tiny", "text": "def f", "f": "2-res-jump/3@20", "n": "8", "csrfmiddlewaretoken": token}
    headers = {"Cookie": cookie, "Content-Type": "application/x-www-form-urlencoded"}
    response = client.open("POST", "/steer/start", urlencode(recipe), **headers)
    html = response.read().decode()
    assert response.status == 200, html[-2000:]
    assert "Default" in html and "Steered" in html
    assert "data-job" not in html
