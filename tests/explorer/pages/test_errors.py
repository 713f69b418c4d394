"""Errors: one phrasing as page, fragment and JSON."""

import json

import pytest
from django.db import OperationalError
from django.http import Http404
from django.test import RequestFactory

from explorer import errors
from inference.errors import FacetError, InvalidInput, NotFound, SignInRequired


def answer(path: str, error: Exception, **headers):
    request = RequestFactory().get(path, **headers)
    request.facet_id = "abc123"
    return errors.ErrorMiddleware(lambda request: None).process_exception(request, error)


def test_a_page_names_cause_remedy_and_addresses_that_exist():
    error = NotFound("There is no model 'x'.", "Choose one.", suggestions=["/facet-demo"])
    response = answer("/x", error)
    page = response.content.decode()
    assert response.status_code == 404
    assert "There is no model &#x27;x&#x27;." in page and "Choose one." in page and 'href="/facet-demo"' in page
    assert "abc123" in page


def test_htmx_gets_a_fragment():
    response = answer("/x", InvalidInput("Bad.", "Better."), HTTP_HX_REQUEST="true")
    assert response.status_code == 422
    assert response["X-Facet-Fragment"] == "problem"
    assert "<html" not in response.content.decode()


def test_the_api_gets_json():
    response = answer("/api/v1/x", InvalidInput("Bad.", "Better.", field="q"))
    body = json.loads(response.content)
    assert body == {
        "error": {
            "code": "invalid-input",
            "cause": "Bad.",
            "remedy": "Better.",
            "details": {"field": "q"},
            "request_id": "abc123",
        }
    }


def test_writing_without_an_account_leads_to_the_sign_in_page():
    response = answer("/lists?page=2", SignInRequired("Sign in.", "There."))
    assert response.status_code == 302
    assert response.url == "/accounts/login?next=%2Flists%3Fpage%3D2"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (OperationalError("connection refused"), 503, "postgres-gone"),
        (Http404(), 404, "not-found"),
        (ZeroDivisionError("a secret detail"), 500, "server-error"),
        (FacetError("Odd.", "Try again."), 500, "error"),
    ],
)
def test_every_exception_becomes_an_error(error, status, code):
    response = answer("/x", error)
    assert response.status_code == status
    page = response.content.decode()
    assert code in page
    assert "secret" not in page and "refused" not in page


def test_a_refused_form_says_what_to_do(client):
    from django.test import Client

    response = Client(enforce_csrf_checks=True).post("/accounts/login", {"username": "x", "password": "y"})
    assert response.status_code == 403
    assert "no longer valid" in response.content.decode()
