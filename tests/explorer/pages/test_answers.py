"""What every answer carries: compression and the server's time; and the answers themselves on the event loop."""

from __future__ import annotations

import asyncio
import gzip
import re

import pytest
from django.test import Client

from tests.site import Site

pytestmark = pytest.mark.django_db


@pytest.fixture
def reader() -> Client:
    return Client()


def test_an_answer_says_how_long_the_server_and_postgres_took(reader: Client, site: Site):
    header = reader.get(f"{site.source_url}/3").headers["Server-Timing"]
    app, db, statements = re.fullmatch(
        r'app;dur=(\d+\.\d\d), db;dur=(\d+\.\d\d);desc="(\d+) statements"', header
    ).groups()
    assert 0 < float(db) < float(app)
    assert 5 <= int(statements) <= 10


def test_pages_are_compressed_for_those_who_take_it(reader: Client, site: Site):
    plain = reader.get(f"{site.source_url}/3")
    packed = reader.get(f"{site.source_url}/3", headers={"Accept-Encoding": "gzip, br"})
    assert "Content-Encoding" not in plain.headers and packed.headers["Content-Encoding"] == "gzip"
    assert int(packed.headers["Content-Length"]) == len(packed.content) < len(plain.content) / 2
    assert "Accept-Encoding" in plain.headers["Vary"] and "Accept-Encoding" in packed.headers["Vary"]
    assert b"</html>" in gzip.decompress(packed.content)
    sizes = {len(reader.get("/lists", headers={"Accept-Encoding": "gzip"}).content) for _ in range(12)}
    assert len(sizes) > 1  # a name of random length hides the size of what is inside


def test_a_list_by_token_shows_shares_and_what_fires_most(reader: Client, site: Site):
    page = reader.get(f"{site.source_url}?token=self").content.decode()
    shares = [float(share) for share in re.findall(r'c-share"><span class="density-cell"><span>([\d.]+) %', page)]
    assert len(shares) > 1 and shares == sorted(shares, reverse=True)
    assert "sort=share" in page and "most on the token" in page
    assert "c-share" not in reader.get(site.source_url).content.decode()
    fragment = reader.get(f"{site.source_url}/token?token=self", headers={"HX-Request": "true"}).content.decode()
    assert "times in the text; fire most on it" in fragment and f'href="{site.source_url}/' in fragment
    bare = reader.get(f"{site.source_url}/token?token=self")
    assert (bare.status_code, bare.headers["Location"]) == (302, f"{site.source_url}?token=self")


def test_the_application_answers_requests_that_cannot_be_read_and_those_who_left():
    from explorer.asgi import application

    async def ask(scope: dict, messages: list[dict]) -> list[dict]:
        sent: list[dict] = []

        async def receive() -> dict:
            return messages.pop(0)

        async def send(message: dict) -> None:
            sent.append(message)

        await application(scope, receive, send)
        return sent

    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": [], "root_path": ""}
    assert asyncio.run(ask(scope, [{"type": "http.disconnect"}])) == []
    with pytest.raises(ValueError, match="serves HTTP"):
        asyncio.run(ask({"type": "websocket"}, []))
