"""The JSON API, version 1: whatever a page can do. docs/api.md describes it, docs/openapi.json is its snapshot."""

from explorer.api.application import api

__all__ = ["api"]
