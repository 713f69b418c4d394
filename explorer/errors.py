"""The one place where the web says that something went wrong.

A FacetError, an unknown address, a refused form, a server error, and Postgres or Valkey that are away all become the
same four fields: as a page, as a fragment for htmx (header `X-Facet-Fragment: problem`), or as JSON under /api/.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable

import structlog
from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.template.loader import render_to_string
from django.urls import is_valid_path
from django.utils.http import urlencode

from inference.errors import FacetError, NotAllowed, NotFound, SignInRequired, Unavailable

log = structlog.get_logger(__name__)


class PostgresGone(Unavailable):
    """Postgres does not answer."""

    code = "postgres-gone"


class ServerError(FacetError):
    """A fault of Facet itself."""

    code = "server-error"


class ErrorMiddleware:
    """Render every error that a view raises, and give each request an id that its errors show."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request.facet_id = _request_id(request)
        if iscoroutinefunction(self):
            return self._answer_async(request)
        return self._stamp(request, self.get_response(request))

    async def _answer_async(self, request: HttpRequest) -> HttpResponse:
        return self._stamp(request, await self.get_response(request))

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Answer for whatever a view raised."""
        error = as_facet_error(exception)
        if error is None:
            log.exception("request failed", path=request.path, request_id=request.facet_id)
            error = server_error(request)
        elif error.status >= 500:
            log.warning("unavailable", path=request.path, code=error.code, cause=error.cause, detail=str(exception))
        return render_error(request, error)

    def _stamp(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        response.headers.setdefault("X-Request-Id", request.facet_id)
        return response


def as_facet_error(exception: Exception) -> FacetError | None:
    """Return the FacetError that an exception means, or None for a fault that nobody foresaw."""
    if isinstance(exception, FacetError):
        return exception
    if isinstance(exception, OperationalError | InterfaceError):
        return PostgresGone(
            "The database does not answer.", "Facet goes on by itself when Postgres is back; reload in a moment."
        )
    if isinstance(exception, Http404):
        return NotFound("There is no such page.", "Start from the models, or search.", suggestions=["/"])
    if isinstance(exception, PermissionDenied):
        return NotAllowed("You may not do this.", "Sign in with an account that may.")
    if isinstance(exception, SuspiciousOperation):
        error = FacetError("The request cannot be read.", "Reload the page and try again.")
        error.code, error.status = "bad-request", 400
        return error
    return None


def server_error(request: HttpRequest) -> FacetError:
    """Return the error for a fault of Facet; its details name the request, whose trace is in the log."""
    return ServerError(
        "Facet made a mistake.", "Try again; the log of the web process has the trace under this request id."
    )


def render_error(request: HttpRequest, error: FacetError) -> HttpResponse:
    """Return the error in the form that the request can show."""
    request_id = getattr(request, "facet_id", "") or _request_id(request)
    if request.path.startswith("/api/"):
        body = {k: v for k, v in error.as_dict().items() if k != "status"} | {"request_id": request_id}
        return JsonResponse({"error": body}, status=error.status)
    context = {"error": error, "request_id": request_id, "request": request, "unavailable": error.status == 503}
    if request.headers.get("HX-Request") == "true":
        body = render_to_string("_problem.html", context)
        return HttpResponse(body, status=error.status, headers={"X-Facet-Fragment": "problem"})
    if isinstance(error, SignInRequired):
        return redirect(f"/accounts/login?{urlencode({'next': _return_address(request)})}")
    return HttpResponse(render_to_string("error.html", context), status=error.status)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer for addresses that no route matches; one that only has a slash too many leads to the right one."""
    bare = request.path.rstrip("/")
    if bare != request.path and is_valid_path(bare):
        query = request.META.get("QUERY_STRING", "")
        return redirect(f"{bare}?{query}" if query else bare)
    return render_error(request, as_facet_error(Http404()))


def failed(request: HttpRequest) -> HttpResponse:
    """Answer for faults outside views, such as a session that cannot be read because Postgres is away."""
    exception = sys.exc_info()[1]
    known = as_facet_error(exception) if isinstance(exception, Exception) else None
    return render_error(request, known or server_error(request))


def forbidden(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Answer for PermissionDenied outside views."""
    return render_error(request, as_facet_error(PermissionDenied()))


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Answer for requests that Django refuses to read."""
    return render_error(request, as_facet_error(SuspiciousOperation()))


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Answer for a form without a valid token, most often a page that was open while cookies were cleared."""
    return render_error(
        request, NotAllowed("This form is no longer valid.", "Reload the page and send it again; cookies must be on.")
    )


def _return_address(request: HttpRequest) -> str:
    """Return where to go after signing in: the page itself, or the page whose form was sent."""
    if request.method == "GET":
        return request.get_full_path()
    referrer = request.headers.get("Referer", "")
    host = f"//{request.get_host()}/"
    return f"/{referrer.split(host, 1)[1]}" if host in referrer else "/"


def _request_id(request: HttpRequest) -> str:
    return request.headers.get("X-Request-Id", "")[:40] or secrets.token_hex(6)
