"""The JSON API on one page, read from its own OpenAPI document: nothing to load, nothing from another host."""

from __future__ import annotations

from dataclasses import dataclass

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from explorer.api import api

METHODS = ("get", "post", "put", "patch", "delete")


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation; `parameters` are (name, where, is required), `needs_account` says who may call it."""

    method: str
    path: str
    summary: str
    description: str
    parameters: tuple[tuple[str, str, bool], ...]
    body: tuple[tuple[str, str, bool], ...]
    needs_account: bool


@require_safe
def api_page(request: HttpRequest) -> HttpResponse:
    """List the operations."""
    schema = api.get_openapi_schema()
    context = {"operations": operations(schema), "info": schema["info"], "crumbs": [("API", "")]}
    return render(request, "api.html", context)


def operations(schema: dict) -> list[Operation]:
    """Return the operations of an OpenAPI document, in its order."""
    models = schema.get("components", {}).get("schemas", {})
    return [
        Operation(
            method=method.upper(),
            path=path,
            summary=operation.get("summary", ""),
            description=operation.get("description", ""),
            parameters=tuple(
                (parameter["name"], parameter["in"], bool(parameter.get("required")))
                for parameter in operation.get("parameters", [])
            ),
            body=_body(operation, models),
            needs_account=bool(operation.get("security")),
        )
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
        if method in METHODS
    ]


def _body(operation: dict, models: dict) -> tuple[tuple[str, str, bool], ...]:
    """Return the fields of the JSON body: name, type, is required."""
    content = operation.get("requestBody", {}).get("content", {})
    schema = next(iter(content.values()), {}).get("schema", {})
    model = models.get(schema.get("$ref", "").rsplit("/", 1)[-1], schema)
    required = set(model.get("required", ()))
    return tuple((name, _type(field), name in required) for name, field in model.get("properties", {}).items())


def _type(field: dict) -> str:
    if "$ref" in field:
        return field["$ref"].rsplit("/", 1)[-1]
    if field.get("type") == "array":
        return f"{_type(field.get('items', {}))}[]"
    options = field.get("anyOf") or field.get("oneOf")
    return " | ".join(map(_type, options)) if options else str(field.get("type", "any"))
