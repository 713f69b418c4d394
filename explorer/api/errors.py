"""Errors of the API: {"error": {"code", "cause", "remedy", "details", "request_id"}}, rendered by explorer.errors."""

from __future__ import annotations

from http import HTTPStatus

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, AuthorizationError, HttpError, ValidationError

from explorer.errors import as_facet_error, render_error
from inference.errors import FacetError, InvalidInput, NotAllowed, SignInRequired

COMPARE = "Compare the request with docs/api.md or /api/v1/openapi.json."


class TooLarge(InvalidInput):
    """A body larger than Django's limit."""

    code = "request-too-large"
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


def add_handlers(api: NinjaAPI) -> None:
    """Let every error of the API take the one form; faults that nobody foresaw go on to the middleware, which logs."""

    @api.exception_handler(Exception)
    @api.exception_handler(AuthenticationError)
    @api.exception_handler(HttpError)
    @api.exception_handler(ValidationError)
    def answer(request: HttpRequest, exception: Exception) -> HttpResponse:
        error = _from_ninja(exception) or as_facet_error(exception)
        if error is None:
            raise exception
        return render_error(request, error)


def _from_ninja(exception: Exception) -> FacetError | None:
    if isinstance(exception, ValidationError):
        return _invalid(exception)
    if isinstance(exception, AuthenticationError):
        return SignInRequired(
            "Writing needs an account.",
            "Sign in and send the CSRF token, or send `Authorization: Bearer TOKEN` from POST /api/v1/token.",
        )
    if isinstance(exception, AuthorizationError):
        return NotAllowed("This account may not do this.", "Use another account.")
    if isinstance(exception, RequestDataTooBig):
        return TooLarge("The body of the request is too large.", "Send less at once.")
    if isinstance(exception, HttpError):
        kind = NotAllowed if exception.status_code == HTTPStatus.FORBIDDEN else InvalidInput
        error = kind(f"{str(exception).rstrip('.')}.", COMPARE)
        error.status = exception.status_code
        return error
    return None


def _invalid(exception: ValidationError) -> InvalidInput:
    problems = [
        {"field": ".".join(str(part) for part in problem["loc"][1:] if part != "body"), "problem": problem["msg"]}
        for problem in exception.errors
    ]
    first = problems[0]
    return InvalidInput(f"{first['field'] or 'The body'}: {first['problem']}.", COMPARE, problems=problems)
