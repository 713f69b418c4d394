"""The JSON API against the database: reads are what selectors return, writes ask who calls."""

from __future__ import annotations

import json

import pytest
from django.contrib.auth import get_user_model
from django.test import Client

from explorer.api.auth import make_token
from features import services
from features.services.explanations import MethodExplanation
from tests.explorer.world import N_FEATURES, SOURCES

PASSWORD = "lovelace-1843"
FEATURE = "/api/v1/features/tiny/1-res-topk/7"


@pytest.fixture
def user(transactional_db):
    return get_user_model().objects.create_user("ada", password=PASSWORD)


@pytest.fixture
def stranger(transactional_db):
    return get_user_model().objects.create_user("bob", password=PASSWORD)


class Api:
    """A caller of the API with or without a token."""

    def __init__(self, user=None) -> None:
        self.client = Client(enforce_csrf_checks=True)
        self.headers = {"Authorization": f"Bearer {make_token(user)}"} if user else {}

    def __call__(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, object]:
        response = self.client.generic(
            method,
            path,
            b"" if body is None else json.dumps(body),
            content_type="application/json",
            headers=self.headers | headers,
        )
        return response.status_code, json.loads(response.content) if response.content else None


def test_the_catalogue_is_listed(world):
    api = Api()
    _, models = api("GET", "/api/v1/models")
    assert [model["slug"] for model in models] == ["tiny"]
    status, page = api("GET", "/api/v1/models/tiny")
    assert (status, [source["source"] for source in page["sources"]]) == (200, list(SOURCES))
    status, source = api("GET", "/api/v1/sources/tiny/1-res-topk")
    assert (status, source["n_features"], source["hook_point"]) == (200, N_FEATURES, SOURCES["1-res-topk"])


def test_features_are_filtered_sorted_and_paged(world):
    api = Api()
    path = "/api/v1/sources/tiny/1-res-topk/features"
    status, page = api("GET", f"{path}?sort=-density&density_high=0.05&per_page=10&page=2")
    assert status == 200
    assert [row["index"] for row in page["features"]["rows"]] == list(range(40, 30, -1))
    assert (page["features"]["total"], page["features"]["n_pages"]) == (51, 6)
    assert api("GET", f"{path}?sort=colour")[1]["error"]["code"] == "invalid-input"
    assert api("GET", f"{path}?per_page=100000")[0] == 422


def test_a_feature_is_read_whole(world):
    api = Api()
    status, card = api("GET", FEATURE)
    assert (status, card["index"], card["firing_count"]) == (200, 7, 7)
    status, row = api("GET", "/api/v1/features/tiny/random")
    assert (status, row["model"]) == (200, "tiny")
    status, answer = api("GET", "/api/v1/features/tiny/1-res-topk/4000")
    assert (status, answer["error"]["code"]) == (404, "unknown-address")
    assert answer["error"]["details"]["suggestions"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", f"{FEATURE}/explanations", {"text": "dates"}),
        ("POST", f"{FEATURE}/comments", {"text": "hm"}),
        ("POST", "/api/v1/explanations/1/vote", {"value": 1}),
        ("POST", "/api/v1/lists", {"name": "mine"}),
        ("POST", "/api/v1/runs", {"model": "tiny"}),
        ("POST", "/api/v1/runs/1/cancel", None),
    ],
)
def test_writing_needs_an_account(world, method, path, body):
    status, answer = Api()(method, path, body)
    assert (status, answer["error"]["code"]) == (401, "sign-in-required")
    assert set(answer["error"]) == {"code", "cause", "remedy", "details", "request_id"}


def test_labels_votes_and_comments(world, user, stranger):
    services.explanations.add(
        dictionary=world["1-res-topk"].id, method="token", explanations=[MethodExplanation(7, "by a method", {})]
    )
    ada, bob = Api(user), Api(stranger)
    status, label = ada("POST", f"{FEATURE}/explanations", {"text": "dates"})
    assert (status, label["text"], label["author"]) == (201, "dates", "ada")
    assert label["mine"] and label["my_vote"] == 0
    vote = f"/api/v1/explanations/{label['id']}/vote"
    ada("POST", vote, {"value": -1})
    again = ada("POST", f"{FEATURE}/explanations", {"text": "dates"})[1]
    assert again["id"] == label["id"] and (again["votes"], again["my_vote"]) == (-1, -1)
    ada("POST", vote, {"value": 0})
    assert bob("POST", f"/api/v1/explanations/{label['id']}/vote", {"value": 1}) == (200, {"votes": 1})
    assert bob("POST", f"/api/v1/explanations/{label['id']}/vote", {"value": 2})[0] == 422
    _, card = bob("GET", FEATURE)
    assert card["label"] == "dates"
    assert [(one["text"], one["votes"], one["my_vote"]) for one in card["explanations"]] == [
        ("dates", 1, 1),
        ("by a method", 0, 0),
    ]
    status, comment = bob("POST", f"{FEATURE}/comments", {"text": "I agree."})
    assert (status, comment["author"]) == (201, "bob")
    assert ada("DELETE", f"/api/v1/comments/{comment['id']}")[0] == 403
    assert bob("DELETE", f"/api/v1/comments/{comment['id']}") == (204, None)
    assert bob("DELETE", f"/api/v1/explanations/{label['id']}")[0] == 403
    assert ada("DELETE", f"/api/v1/explanations/{label['id']}") == (204, None)


def test_lists(world, user, stranger):
    ada, bob = Api(user), Api(stranger)
    status, made = ada("POST", "/api/v1/lists", {"name": "dates", "description": "all kinds"})
    assert status == 201
    path = f"/api/v1/lists/{made['id']}"
    member = {"model": "tiny", "source": "1-res-topk", "index": 7, "note": "a good one"}
    assert ada("POST", f"{path}/members", member) == (204, None)
    assert bob("POST", f"{path}/members", member)[0] == 403
    status, page = bob("GET", path)
    assert (status, page["features"]["rows"][0]["index"], page["notes"]) == (200, 7, ["a good one"])
    assert ada("PUT", path, {"name": "calendar"})[1]["name"] == "calendar"
    assert [one["mine"] for one in ada("GET", "/api/v1/lists")[1]] == [True]
    assert ada("DELETE", f"{path}/members/tiny/1-res-topk/7")[0] == 204
    assert ada("DELETE", path)[0] == 204
    assert ada("GET", path)[0] == 404


def test_a_token_is_given_for_a_password_and_ends_with_it(world, user):
    visitor = Api()
    assert visitor("POST", "/api/v1/token", {"username": "ada", "password": "wrong"})[0] == 401
    assert visitor("POST", "/api/v1/token", {"username": "a\0da", "password": "\ud800"})[0] == 401
    status, answer = visitor("POST", "/api/v1/token", {"username": "ada", "password": PASSWORD})
    assert status == 200
    header = {"Authorization": f"Bearer {answer['token']}"}
    assert visitor("GET", "/api/v1/me", **header) == (200, {"username": "ada"})
    assert visitor("GET", "/api/v1/me") == (200, {"username": ""})
    user.set_password("another-1843")
    user.save()
    status, refused = visitor("GET", "/api/v1/me", **header)
    assert (status, refused["error"]["code"]) == (401, "sign-in-required")
    assert visitor("POST", f"{FEATURE}/comments", {"text": "hm"}, **header)[0] == 401


def test_a_session_writes_only_with_its_csrf_token(world, user):
    browser = Api()
    browser.client.force_login(user)
    status, answer = browser("POST", f"{FEATURE}/comments", {"text": "hm"})
    assert (status, answer["error"]["code"]) == (403, "not-allowed")
    browser.client.cookies["csrftoken"] = "a" * 32
    assert browser("POST", f"{FEATURE}/comments", {"text": "hm"}, **{"X-CSRFToken": "a" * 32})[0] == 201


def test_bodies_that_are_not_json_or_too_large_are_refused(world, settings):
    client = Client()
    response = client.post("/api/v1/prompt", b"{not json", content_type="application/json")
    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid-input")
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
    response = client.post("/api/v1/prompt", b"x" * 200, content_type="application/json")
    assert (response.status_code, response.json()["error"]["code"]) == (413, "request-too-large")


def test_search_says_how_it_understood(world):
    status, found = Api()("GET", "/api/v1/search?q=dates&model=tiny")
    assert status == 200
    assert found["query"] == "dates"
    assert found["terms"]


@pytest.mark.parametrize("path", ["/api/v1/none", "/api/v1/runs/999", "/api/v1/lists/999", "/api/v1/models/none"])
def test_unknown_addresses_are_json(world, path):
    status, answer = Api()("GET", path)
    assert status == 404
    assert answer["error"]["cause"]
