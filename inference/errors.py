"""The one way in which Facet says that something is wrong.

Every error a user can cause or meet is a `FacetError`: it carries a stable `code`, an HTTP `status`, a one-line
`cause`, a one-line `remedy`, and `details`, the objects involved as JSON-ready values. Pages, the JSON API, commands
and workers render the same four fields, so each error is phrased once, here or in a subclass beside its raiser.
This module imports neither torch nor Django.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class FacetError(Exception):
    """An error with a cause and a remedy that a user can act on."""

    code = "error"
    status = 500

    def __init__(self, cause: str, remedy: str, **details: Any) -> None:
        super().__init__(cause)
        self.cause = cause
        self.remedy = remedy
        self.details = details

    def __str__(self) -> str:
        return f"{self.cause} {self.remedy}"

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form: code, status, cause, remedy, details."""
        return {
            "code": self.code,
            "status": self.status,
            "cause": self.cause,
            "remedy": self.remedy,
            "details": self.details,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> FacetError:
        """Rebuild an error that crossed a process border; its code and status survive, its class need not."""
        error = FacetError(data["cause"], data["remedy"], **data.get("details", {}))
        error.code = data["code"]
        error.status = data["status"]
        return error


class InvalidInput(FacetError):
    """Something the user sent cannot be used as it is."""

    code = "invalid-input"
    status = 422


class NotFound(FacetError):
    """An address that names nothing; `suggestions` hold addresses that exist."""

    code = "not-found"
    status = 404

    def __init__(self, cause: str, remedy: str, *, suggestions: list[str] | None = None, **details: Any) -> None:
        super().__init__(cause, remedy, suggestions=suggestions or [], **details)


class NotAllowed(FacetError):
    """The user is known, or is not, and may not do this."""

    code = "not-allowed"
    status = 403


class SignInRequired(NotAllowed):
    """Writing needs an account."""

    code = "sign-in-required"
    status = 401


class Conflict(FacetError):
    """The change would collide with something that is already there or under way."""

    code = "conflict"
    status = 409


class Unavailable(FacetError):
    """A part of the deployment (a worker, Valkey, Postgres) does not answer for now."""

    code = "unavailable"
    status = 503


class WorkerLost(Unavailable):
    """The worker that held a live request is gone before its answer was complete."""

    code = "worker-lost"


class PathRefused(InvalidInput):
    """A path that the operating system refuses to this process."""

    code = "path-refused"


@contextmanager
def using_paths() -> Iterator[None]:
    """Raise PathRefused where the operating system refuses a path: for whatever uses the paths that people name."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            raise
        raise PathRefused(
            f"This machine refuses {str(error.filename)[:200]!r}: {error.strerror}.",
            "Check the path, and what the account that runs Facet may do there.",
        ) from error
