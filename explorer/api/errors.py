"""Errors of the API: always {"error": {"code", "cause", "remedy", "details", "request_id"}} with the error's status."""

from __future__ import annotations

import logging
import uuid
from http import HTTPStatus

from django.core.exceptions import RequestDataTooBig
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, AuthorizationError, HttpError, ValidationError

from inference.errors import FacetError, InvalidInput, NotAllowed, NotFound, SignInRequired, Unavailable

log = logging.getLogger(__name__)


def add_handlers(api: NinjaAPI) -> None:
    """Make every error of the API a FacetError, and every FacetError JSON."""

    def respond(request: HttpRequest, error: FacetError) -> HttpResponse:
        body = error.as_dict()
        status = body.pop("status")
        body["request_id"] = getattr(request, "request_id", None) or uuid.uuid4().hex
        response = api.create_response(request, {"error": body}, status=status)
        if status == HTTPStatus.UNAUTHORIZED:
            response["WWW-Authenticate"] = "Bearer"
        return response

    @api.exception_handler(FacetError)
    def facet_error(request: HttpRequest, error: FacetError) -> HttpResponse:
        return respond(request, error)

    @api.exception_handler(ValidationError)
    def invalid(request: HttpRequest, error: ValidationError) -> HttpResponse:
        problems = [
            {"field": ".".join(str(part) for part in problem["loc"][1:]), "problem": problem["msg"]}
            for problem in error.errors
        ]
        first = problems[0]
        return respond(
            request,
            InvalidInput(
                f"{first['field'] or 'The body'}: {first['problem']}.",
                "Compare the request with docs/api.md or /api/v1/openapi.json.",
                problems=problems,
            ),
        )

    @api.exception_handler(AuthenticationError)
    def anonymous(request: HttpRequest, _error: AuthenticationError) -> HttpResponse:
        return respond(
            request,
            SignInRequired(
                "Writing needs an account.",
                "Sign in and send the CSRF token, or send `Authorization: Bearer TOKEN` (POST /api/v1/token gives one).",
            ),
        )

    @api.exception_handler(AuthorizationError)
    def refused(request: HttpRequest, _error: AuthorizationError) -> HttpResponse:
        return respond(request, NotAllowed("This account may not do this.", "Use another account."))

    @api.exception_handler(HttpError)
    def http_error(request: HttpRequest, error: HttpError) -> HttpResponse:
        known = NotAllowed if error.status_code == HTTPStatus.FORBIDDEN else InvalidInput
        wrapped = known(f"{str(error).rstrip('.')}.", "Compare the request with docs/api.md.")
        wrapped.status = error.status_code
        return respond(request, wrapped)

    @api.exception_handler(Http404)
    def missing(request: HttpRequest, _error: Http404) -> HttpResponse:
        return respond(request, NotFound("There is nothing at this address.", "See /api/v1/openapi.json for addresses."))

    @api.exception_handler(RequestDataTooBig)
    def too_big(request: HttpRequest, _error: RequestDataTooBig) -> HttpResponse:
        error = InvalidInput("The body of the request is too large.", "Send less at once.")
        error.status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        return respond(request, error)

    @api.exception_handler(OperationalError)
    @api.exception_handler(InterfaceError)
    def database_gone(request: HttpRequest, error: Exception) -> HttpResponse:
        log.error("Postgres does not answer: %s", error)
        gone = Unavailable("Postgres does not answer.", "Try again in a moment; start it if it is stopped.")
        return respond(request, gone)
