"""Pages over HTTP, without scripts: every address renders, forms post, wrong ones suggest."""

from __future__ import annotations

import gzip
import re

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from features.models import Dictionary
from tests.site import Site

# What a test writes is rolled back; the site was committed before.
pytestmark = pytest.mark.django_db


@pytest.fixture
def reader(site: Site) -> Client:
    """Somebody without an account."""
    return Client()


@pytest.fixture
def writer(site: Site) -> Client:
    """Somebody who is signed in."""
    client = Client()
    assert client.login(username=site.user, password=site.password)
    return client


def text(response) -> str:
    return response.content.decode()


@pytest.mark.parametrize(
    "address",
    [
        "/",
        "/tiny",
        "/tiny/1-res-topk",
        "/tiny/2-res-jump?sort=-density&state=alive&page=2",
        "/tiny/1-res-topk?text=tokens&min_density=0.0001&max_density=0.5",
        "/search",
        "/search?q=self",
        "/search?q=zzzzqqqq",
        "/lists",
        "/prompt",
        "/steer",
        "/runs",
        "/api",
        "/accounts/login",
        "/corpora/python/0?lines=3-9",
        "/patterns/",
        "/runs/tray",
    ],
)
def test_every_page_renders(reader: Client, address: str):
    assert reader.get(address).status_code == 200


def test_a_feature_page_shows_bands_and_silence_in_few_queries_and_bytes(reader: Client, site: Site):
    reader.get(site.feature_url)
    with CaptureQueriesContext(connection) as queries:
        response = reader.get(site.feature_url)
    page = text(response)
    assert response.status_code == 200
    assert len(queries) <= 18
    assert len(gzip.compress(response.content)) <= 60_000
    assert {0, 6, 7} <= {int(code) for code in re.findall(r'data-group="(\d)"', page)}
    assert "Silent, nearest to firing" in page
    assert "BOS and padding excluded" in page and "sha256" in page


def test_a_page_says_where_co_firing_was_counted_in_part(reader: Client, site: Site):
    rows = Dictionary.objects.filter(model__slug="tiny", source="1-res-topk")
    assert "lower bounds" not in text(reader.get("/tiny/1-res-topk/3"))
    rows.update(stats=rows.get().stats | {"co_firing_exact": False})
    assert "lower bounds" in text(reader.get("/tiny/1-res-topk/3"))


def test_the_number_of_queries_does_not_depend_on_the_feature(reader: Client, site: Site):
    counts = set()
    for index in range(0, 128, 16):
        with CaptureQueriesContext(connection) as queries:
            reader.get(f"{site.source_url}/{index}")
        counts.add(len(queries))
    assert max(counts) - min(counts) <= 1  # features that never fire have no token to name


def test_a_group_opens_without_scripts_and_as_a_fragment(reader: Client, site: Site):
    address = f"{site.feature_url}/examples?group=0"
    assert reader.get(address).url == f"{site.feature_url}?group=0#group-0"
    whole = text(reader.get(f"{site.feature_url}?group=0"))
    fragment = text(reader.get(address, headers={"HX-Request": "true"}))
    assert "<html" not in fragment
    assert fragment.count("<article") == whole.split('id="group-0"')[1].split("</section>")[0].count("<article") > 2


def test_the_rail_goes_on_in_both_directions(reader: Client, site: Site):
    after = text(reader.get(f"{site.source_url}/rail?after=40"))
    assert f'href="{site.source_url}/41"' in after and "after=64" in after
    before = text(reader.get(f"{site.source_url}/rail?before=10"))
    assert f'href="{site.source_url}/0"' in before and "before=" not in before
    assert reader.get(f"{site.source_url}/rail").status_code == 422


def test_htmx_gets_the_list_alone(reader: Client, site: Site):
    fragment = text(reader.get(f"{site.source_url}?sort=-maximum", headers={"HX-Request": "true"}))
    assert "<html" not in fragment and 'aria-sort="descending"' in fragment


def test_random_goes_to_a_feature_and_keeps_the_text(reader: Client, site: Site):
    response = reader.get(f"{site.source_url}/random?text=abc")
    assert re.fullmatch(rf"{site.source_url}/\d+\?text=abc", response.url)


@pytest.mark.parametrize(
    ("address", "suggestion"),
    [("/tinny", "/tiny"), ("/tiny/1-res-topq", "/tiny/1-res-topk"), ("/tiny/1-res-topk/9999", "/tiny/1-res-topk/127")],
)
def test_wrong_addresses_suggest_right_ones(reader: Client, address: str, suggestion: str):
    response = reader.get(address)
    assert response.status_code == 404
    assert f'href="{suggestion}"' in text(response)


def test_a_slash_too_many_is_taken_off(reader: Client, site: Site):
    response = reader.get(f"{site.source_url}/?page=2")
    assert response.status_code == 302 and response.url == f"{site.source_url}?page=2"


@pytest.mark.parametrize("query", ["sort=age", "state=asleep", "min_density=lots", "max_density=7"])
def test_filters_that_cannot_be_are_refused_with_a_remedy(reader: Client, site: Site, query: str):
    response = reader.get(f"{site.source_url}?{query}")
    assert response.status_code == 422
    assert re.search(r"Use |Write ", text(response))


def test_the_palette_finds_addresses_and_features(reader: Client, site: Site):
    def palette(query: str) -> str:
        return text(reader.get("/search", {"q": query, "palette": "1"}, headers={"HX-Request": "true"}))

    assert f'href="{site.source_url}/7"' in palette("7")
    assert f'href="{site.source_url}/7"' in palette(f"{site.source}/7")
    assert f'href="{site.source_url}"' in palette("topk")
    assert palette("") == ""


def test_search_says_how_many_there_are_and_what_it_did_not_understand(reader: Client, site: Site):
    page = text(reader.get("/search", {"q": "self OR foo:bar"}))
    assert "Not understood:" in page and ">OR</span>" in page and ">foo:bar</span>" in page
    assert "Not understood:" in text(reader.get("/search", {"q": "density:<zz"}))
    page = text(reader.get("/search", {"q": "self"}))
    assert "Not understood" not in page
    assert re.search(r"20 of \d+", page) and re.search(r"<summary>\d+ more</summary>", page)
    places = [page.find(f'id="by-{kind}"') for kind in ("explanation", "peak", "promoted", "context")]
    assert [place for place in places if place > 0] == sorted(place for place in places if place > 0)
    assert re.search(r'<a class="cover label" href="/tiny/[^"]+"><bdi>[^<]+</bdi></a>', page)
    assert re.search(r'<div class="small soft"><bdi>peaks on “ ?self”, \d+% of its activation', page)
    assert re.search(r'peaks here: <a class="over" href="/tiny/([^"]+)">\1 ', page)
    only = text(reader.get("/search", {"q": "tok:self"}))
    assert 'id="by-peak"' in only and 'id="by-context"' not in only and 'id="by-explanation"' not in only


def test_writing_needs_an_account(reader: Client, site: Site):
    response = reader.post(f"{site.feature_url}/label", {"text": "mine"})
    assert response.status_code == 302 and response.url.startswith("/accounts/login?next=")
    fragment = reader.post(f"{site.feature_url}/label", {"text": "mine"}, headers={"HX-Request": "true"})
    assert fragment.status_code == 401 and "Sign in" in text(fragment)


def test_labels_votes_comments_and_lists_post_without_scripts(writer: Client, site: Site):
    assert writer.post(f"{site.feature_url}/label", {"text": "a label of mine"}).url == site.feature_url
    page = text(writer.get(site.feature_url))
    assert '<h1 id="feature-label"' in page and "a label of mine" in page.split("</h1>")[0]
    explanation = re.search(r"/explanations/(\d+)/vote", page)[1]
    writer.post(f"{site.feature_url}/explanations/{explanation}/vote", {"value": "1"})
    assert 'aria-pressed="true" title="Fits"' in text(writer.get(site.feature_url))
    writer.post(f"{site.feature_url}/comment", {"text": "I doubt it.\nSee line 2."})
    for _ in range(2):
        assert writer.post(f"{site.feature_url}/lists", {"name": "Doubtful", "change": "add"}).status_code == 302
    page = text(writer.get(site.feature_url))
    assert "I doubt it." in page and "Take off" in page
    number = re.search(r'href="/lists/(\d+)"', page)[1]
    assert "a label of mine" in text(writer.get(f"/lists/{number}"))
    writer.post(f"{site.feature_url}/lists", {"list": number, "change": "remove"})
    assert "a label of mine" not in text(writer.get(f"/lists/{number}"))
    writer.post(f"/lists/{number}", {"change": "save", "name": "Certain", "description": "now"})
    assert "Certain" in text(writer.get("/lists"))
    writer.post(f"/lists/{number}", {"change": "delete"})
    assert writer.get(f"/lists/{number}").status_code == 404


def test_the_panel_that_changed_answers_htmx(writer: Client, site: Site):
    fragment = text(writer.post(f"{site.feature_url}/label", {"text": "by fragment"}, headers={"HX-Request": "true"}))
    assert "<html" not in fragment
    assert 'id="feature-label" hx-swap-oob="true"' in fragment
    own = re.search(r'action="([^"]*/explanations/\d+/delete)"', fragment)[1]
    assert "by fragment" not in text(writer.post(own, headers={"HX-Request": "true"}))


@pytest.mark.parametrize("written", ["", " ", "x" * 100_000])
def test_unusable_labels_are_refused_in_place(writer: Client, site: Site, written: str):
    response = writer.post(f"{site.feature_url}/label", {"text": written}, headers={"HX-Request": "true"})
    assert response.status_code == 422 and response["X-Facet-Fragment"] == "problem"


def test_an_account_signs_in_and_out(reader: Client, site: Site):
    wrong = reader.post("/accounts/login", {"username": site.user, "password": "no"})
    assert "do not match" in text(wrong)
    right = {"username": site.user, "password": site.password, "next": site.feature_url}
    assert reader.post("/accounts/login", right).url == site.feature_url
    assert site.user in text(reader.get("/"))
    assert reader.post("/accounts/logout").status_code == 302


def test_hostile_text_is_shown_as_text(reader: Client, writer: Client, site: Site):
    hostile = "<script>alert(1)</script>"
    assert writer.post(f"{site.feature_url}/label", {"text": hostile}).status_code == 302
    found = text(reader.get("/search", {"q": "label:alert"}))
    assert hostile not in found and "&lt;script&gt;alert(1)" in found
    assert hostile not in text(reader.get("/search", {"q": hostile}))
    assert hostile not in text(reader.get(site.feature_url, {"text": hostile}))
    assert reader.get("/search", {"q": "a\0b"}).status_code == 200
    assert reader.get("/search", {"q": "x" * 5000}).status_code == 422


def test_a_feature_that_cannot_be_added_costs_no_recipe(reader: Client, site: Site):
    recipe = f"model=tiny&f={site.source}/{site.feature}@1.5&text=def%20x&n=20&t=0.3&seed=7"
    response = reader.get(f"/steer?{recipe}&add_source={site.source}&add_index=99999")
    page = text(response)
    assert response.status_code == 422
    assert page.count('class="knob"') == 1
    assert 'id="add-error"' in page and "has no feature 99999" in page
    for kept in (
        "def x</textarea>",
        'name="n" min="1" max="256" value="20"',
        'name="seed" min="0" value="7"',
        'value="99999"',
    ):
        assert kept in page


def test_an_unknown_feature_of_a_recipe_leaves_the_others(reader: Client, site: Site):
    page = text(reader.get(f"/steer?model=tiny&f={site.source}/{site.feature}@2&f={site.source}/99999@1&text=def"))
    assert page.count('class="knob"') == 1
    assert "has no feature 99999" in page


def test_a_steer_link_generates_on_load_once_it_was_run(reader: Client, site: Site):
    recipe = f"/steer?model=tiny&f={site.source}/{site.feature}@2&text=def"
    assert 'hx-trigger="submit, load"' in text(reader.get(f"{recipe}&run=1"))
    assert 'hx-trigger="submit"' in text(reader.get(recipe))
    assert 'hx-trigger="submit"' in text(reader.get("/steer?run=1"))
