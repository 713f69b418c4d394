"""Signing in is tried a limited number of times, on the page and for tokens, by account and address."""

from __future__ import annotations

import json

import pytest
import redis
from django.contrib.auth import get_user_model
from django.test import Client

from explorer import sign_in

pytestmark = pytest.mark.django_db
PASSWORD = "lovelace-1815"
ELSEWHERE = {"REMOTE_ADDR": "192.0.2.7"}


@pytest.fixture
def limit(valkey: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """A limit that is reached soon, with nothing counted yet and two accounts."""
    client = redis.Redis.from_url(valkey)
    for key in client.scan_iter("facet:sign-in:*"):
        client.delete(key)
    for name in ("curie", "hopper"):
        get_user_model().objects.create_user(name, password=PASSWORD)
    monkeypatch.setattr(sign_in, "MAX_ATTEMPTS", 2)
    return 2


def try_page(password: str, *, name: str = "curie", **extra: str):
    return Client(**extra).post("/accounts/login", {"username": name, "password": password})


def try_token(password: str, *, name: str = "curie", **extra: str):
    body = json.dumps({"username": name, "password": password})
    return Client(**extra).post("/api/v1/token", body, content_type="application/json")


def test_after_too_many_failures_the_right_password_waits_too(limit: int):
    for _ in range(limit):
        assert "do not match" in try_page("wrong").content.decode()
    refused = try_page(PASSWORD)
    assert refused.status_code == 429
    assert "2 attempts to sign in to this account failed." in refused.content.decode()
    assert "Try again in 15 minutes." in refused.content.decode()
    token = try_token(PASSWORD)
    error = token.json()["error"]
    assert (token.status_code, error["code"]) == (429, "too-many-attempts")
    assert 0 < error["details"]["retry_after"] <= sign_in.SECONDS


def test_the_page_and_tokens_count_together_and_for_accounts_that_are_not_there(limit: int):
    assert try_page("wrong", name="nobody").status_code == 200
    assert try_token("wrong", name="nobody").status_code == 401
    assert try_token("wrong", name="nobody").status_code == 429


def test_other_accounts_and_other_addresses_are_not_locked_out(limit: int):
    for _ in range(limit + 1):
        try_token("wrong")
    assert try_token(PASSWORD).status_code == 429
    assert try_token(PASSWORD, **ELSEWHERE).status_code == 200
    assert try_token(PASSWORD, name="hopper").status_code == 200


def test_signing_in_forgets_earlier_failures(limit: int):
    for _ in range(2 * limit):
        assert try_token("wrong").status_code == 401
        assert try_page(PASSWORD).status_code == 302


def test_the_lock_ends_by_itself_however_often_one_tries_on(limit: int, valkey: str):
    client = redis.Redis.from_url(valkey)
    try_token("wrong")
    (key,) = client.scan_iter("facet:sign-in:*")
    client.expire(key, 100)
    for _ in range(limit):
        assert try_token("wrong").status_code in (401, 429)
    assert 0 < client.ttl(key) <= 100
    client.delete(key)  # what the server does when the time is over
    assert try_token(PASSWORD).status_code == 200


def test_without_valkey_one_can_still_sign_in(limit: int, settings, tmp_path):
    settings.REDIS_URL = f"unix://{tmp_path / 'nothing'}?db=0"
    for _ in range(limit + 1):
        assert try_token("wrong").status_code == 401
    assert try_page(PASSWORD).status_code == 302
