"""Sign in with a name and a password, a limited number of times: what the page and the API's tokens share.

Attempts are counted in Valkey by account and address, so that guesses from elsewhere lock nobody out and all web
processes count together. While Valkey is away nothing is counted, and signing in goes on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import structlog
from django.contrib.auth.forms import AuthenticationForm
from django.http import HttpRequest

from explorer.live import ValkeyGone
from explorer.live.jobs import valkey
from features.words import storable
from inference.errors import NotAllowed

MAX_ATTEMPTS = 10
SECONDS = 900
log = structlog.get_logger(__name__)


class TooManyAttempts(NotAllowed):
    """An account was tried with wrong passwords too often from one address."""

    code = "too-many-attempts"
    status = 429

    def __init__(self, seconds: int) -> None:
        minutes = max(1, -(-seconds // 60))
        super().__init__(
            f"{MAX_ATTEMPTS} attempts to sign in to this account failed.",
            f"Try again in {minutes} minute{'s' * (minutes != 1)}.",
            retry_after=seconds,
        )


class SignInForm(AuthenticationForm):
    """Django's form, whose attempts are counted."""

    def clean(self) -> dict[str, Any]:
        """Return the fields of somebody who signed in; raise TooManyAttempts, which becomes a page."""
        with attempt(self.request, self.cleaned_data.get("username", "")):
            return super().clean()


@contextmanager
def attempt(request: HttpRequest, username: str) -> Iterator[None]:
    """Count an attempt to sign in, and forget those before if the block ends without an error.

    It is counted before the password is looked at, so that guesses side by side are as few as one after the other.

    Raises:
        TooManyAttempts: after MAX_ATTEMPTS failures, until SECONDS have passed since the first of them.
    """
    key = _key(request, username)
    try:
        with valkey() as client:
            pipeline = client.pipeline(transaction=True)
            pipeline.set(key, 0, ex=SECONDS, nx=True)
            pipeline.incr(key)
            pipeline.ttl(key)
            _, made, seconds = pipeline.execute()
    except ValkeyGone:
        log.warning("attempts to sign in are not counted, Valkey does not answer")
        yield
        return
    if made > MAX_ATTEMPTS:
        raise TooManyAttempts(seconds)
    yield
    with suppress(ValkeyGone), valkey() as client:
        client.delete(key)


def _key(request: HttpRequest, username: str) -> str:
    said = f"{request.META.get('REMOTE_ADDR', '')} {storable(username)}"
    return f"facet:sign-in:{hashlib.sha256(said.encode()).hexdigest()}"
