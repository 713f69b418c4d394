"""Who calls the API: a browser's session with its CSRF token, or a bearer token of an account.

A token is signed and stateless: it names the account, carries a digest of its password hash, and so ends when the
password changes, after TOKEN_DAYS, or with the secret key. It grants what the account may do.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib.auth import authenticate, get_user_model
from django.contrib.auth.models import AbstractBaseUser
from django.core import signing
from django.http import HttpRequest
from django.utils.crypto import constant_time_compare
from ninja.security import HttpBearer, SessionAuth

from explorer.sign_in import attempt
from features.words import storable
from inference.errors import SignInRequired

SALT = "facet.api.token"
TOKEN_DAYS = 90
DIGEST_LENGTH = 24


def make_token(user: AbstractBaseUser) -> str:
    """Return a bearer token of the account."""
    return signing.dumps({"user": user.pk, "digest": user.get_session_auth_hash()[:DIGEST_LENGTH]}, salt=SALT)


def user_of_token(token: str) -> AbstractBaseUser | None:
    """Return the account of a valid token, or None."""
    try:
        content = signing.loads(token, salt=SALT, max_age=timedelta(days=TOKEN_DAYS))
    except signing.BadSignature:
        return None
    user = get_user_model().objects.filter(pk=content["user"], is_active=True).first()
    if user is None or not constant_time_compare(user.get_session_auth_hash()[:DIGEST_LENGTH], content["digest"]):
        return None
    return user


def token_for(request: HttpRequest, *, username: str, password: str) -> str:
    """Return a token for an account's name and password.

    Raises:
        SignInRequired: where they do not fit together.
        TooManyAttempts: where they did not too often.
    """
    with attempt(request, username):
        user = authenticate(request, username=storable(username), password=storable(password))
        if user is None:
            raise SignInRequired(
                "The name and the password do not fit together.", "Check both, or ask for a new password."
            )
    return make_token(user)


class BearerAuth(HttpBearer):
    """`Authorization: Bearer TOKEN`; a token that is not valid is refused and nothing else is tried."""

    def authenticate(self, request: HttpRequest, token: str) -> AbstractBaseUser:
        request.user = _bearer(token)
        return request.user


class BrowserAuth(SessionAuth):
    """A session with its CSRF token. Visitors are told to sign in before a CSRF token is asked of them."""

    def __call__(self, request: HttpRequest) -> Any:
        return super().__call__(request) if request.user.is_authenticated else None


# The bearer comes first: with it no CSRF token is needed, since browsers never send it by themselves.
SIGNED_IN = [BearerAuth(), BrowserAuth()]


def reader(request: HttpRequest) -> AbstractBaseUser | None:
    """Return who reads, by session or by token; None for visitors. A token that is no longer valid is refused."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return _bearer(token.strip())
    return request.user if isinstance(request.user, AbstractBaseUser) else None


def caller(request: HttpRequest) -> AbstractBaseUser:
    """Return who writes; for operations behind SIGNED_IN."""
    if not isinstance(request.user, AbstractBaseUser):
        raise SignInRequired("Writing needs an account.", "Sign in, or send a bearer token.")
    return request.user


def _bearer(token: str) -> AbstractBaseUser:
    user = user_of_token(token)
    if user is None:
        raise SignInRequired("The bearer token is not valid, or no longer.", "Get a new one: POST /api/v1/token.")
    return user
