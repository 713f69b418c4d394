"""The pages of fixtures: they render, keep the policy, stay small, and label what they show."""

import gzip
import re
from collections import Counter
from html.parser import HTMLParser

import pytest
from django.test import Client

from explorer import patterns
from explorer.views.patterns import PAGES

ADDRESSES = ["/patterns/", *(f"/patterns/{name}" for name in sorted(PAGES))]
MAX_COMPRESSED = 60_000


class Reader(HTMLParser):
    """Collects what the checks need."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))


@pytest.fixture(params=ADDRESSES)
def page(request: pytest.FixtureRequest) -> str:
    """The HTML of one page."""
    response = Client().get(request.param)
    assert response.status_code == 200
    return response.content.decode()


def test_nothing_is_inline(page: str):
    for tag, attributes in Reader(page).tags:
        assert "style" not in attributes, f"<{tag}> has a style attribute"
        assert not any(name.startswith(("on", "hx-on")) for name in attributes), f"<{tag}> has a handler"
        if tag == "script":
            assert "src" in attributes or attributes.get("type") == "application/json"
        assert tag != "style"


def test_nothing_comes_from_another_host(page: str):
    for tag, attributes in Reader(page).tags:
        if tag in ("script", "link", "img", "use"):
            assert not attributes.get("src", attributes.get("href", "")).startswith(("http:", "https:", "//"))


def test_pages_are_small(page: str):
    assert len(gzip.compress(page.encode())) <= MAX_COMPRESSED


def test_ids_are_unique(page: str):
    ids = Counter(attributes["id"] for _, attributes in Reader(page).tags if attributes.get("id"))
    assert [name for name, count in ids.items() if count > 1] == []


def test_references_point_at_something(page: str):
    tags = Reader(page).tags
    ids = {attributes.get("id") for _, attributes in tags}
    for tag, attributes in tags:
        for name in ("for", "aria-labelledby", "aria-controls", "list", "form"):
            if (name in attributes and tag != "input") or (name == "list" and attributes.get(name)):
                assert attributes[name] in ids, f"<{tag} {name}={attributes[name]}>"


def test_controls_have_names(page: str):
    html = re.sub(r"<label\b.*?</label>", "", page, flags=re.S)
    for tag, attributes in Reader(html).tags:
        if tag in ("input", "select", "textarea") and attributes.get("type") != "hidden":
            assert attributes.get("aria-label") or attributes.get("aria-labelledby"), f"<{tag} {attributes}>"


def test_the_theme_that_the_reader_chose_is_rendered():
    client = Client()
    assert "data-theme" not in client.get("/patterns/").content.decode().split("<head>")[0]
    client.cookies["theme"] = "dark"
    assert 'data-theme="dark"' in client.get("/patterns/").content.decode()
    client.cookies["theme"] = '"><script>'
    assert "data-theme" not in client.get("/patterns/").content.decode().split("<head>")[0]


def test_the_width_that_the_reader_chose_is_rendered():
    client = Client()
    client.cookies["width"] = "full"
    assert 'class="contexts" data-width="full"' in client.get("/patterns/feature").content.decode()


def test_shards_and_sources_are_shown_with_their_edges():
    page = " ".join(Client().get("/patterns/").content.decode().split())
    assert "56 shards" in page and "21 made · 2 in work · 31 waiting · 2 failed" in page
    assert page.count("<g><title>shard") == 56
    assert "the 3 strongest of 7 tokens" in page
    assert "it does not fire here" in page


def test_rounding_is_told_only_where_it_can_be_seen():
    negligible, noticeable, none = patterns.traced_text().traced
    assert (negligible.is_rounded, noticeable.is_rounded, none.is_rounded) == (False, True, False)
    page = " ".join(Client().get("/patterns/").content.decode().split())
    assert page.count("rounding</span>") == 1
    assert "<strong>+0.0240</strong> rounding" in page


def test_unknown_patterns_suggest():
    response = Client().get("/patterns/nothing")
    assert response.status_code == 404
    assert 'href="/patterns"' in response.content.decode()
