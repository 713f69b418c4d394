"""The API's documents are true: the OpenAPI snapshot is current, and docs/api.md shows every route."""

from __future__ import annotations

import json
import re

import pytest
from django.conf import settings
from django.test import Client

from explorer.api import api

DOCS = settings.BASE_DIR / "docs"
REFRESH = "python manage.py export_openapi_schema --api explorer.api.api --indent 2 --sorted --output docs/openapi.json"


def operations() -> list[str]:
    """Return "METHOD /path" of every operation."""
    paths = api.get_openapi_schema()["paths"]
    return [f"{method.upper()} {path}" for path, methods in paths.items() for method in methods]


def test_the_openapi_snapshot_is_current():
    current = json.loads(json.dumps(api.get_openapi_schema(), default=str))
    assert json.loads((DOCS / "openapi.json").read_text()) == current, f"Refresh it: {REFRESH}"


@pytest.mark.parametrize("operation", operations())
def test_every_route_is_documented_with_an_example(operation):
    text = (DOCS / "api.md").read_text()
    method, path = operation.split(" ", 1)
    assert f"`{operation}`" in text
    example = re.escape(path)
    example = re.sub(r"\\\{[^}]*\\\}", r"[^/\\s'\"?]+", example)
    lines = [line for line in text.splitlines() if "curl" in line and re.search(rf"{example}(?=[\s'\"?]|$)", line)]
    if method not in ("GET", "POST"):
        lines = [line for line in lines if f"-X {method}" in line]
    assert lines, f"docs/api.md has no curl example of {operation}"


def test_the_documentation_page_takes_everything_from_here():
    html = Client().get("/api/v1/docs").content.decode()
    assert "http" not in re.sub(r'"url": "[^"]*"', "", html).replace("http-equiv", "")
    assert not re.search(r"<script(?![^>]*(src=|application/json))", html)
