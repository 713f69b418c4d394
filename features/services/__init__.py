"""Every write: keyword-only functions, each in a transaction, that raise inference.errors.FacetError."""

from features.services import (
    accounts,
    additions,
    comments,
    corpora,
    dashboards,
    dictionaries,
    evaluations,
    explanations,
    exports,
    imports,
    lists,
    models,
    runs,
    shards,
    votes,
)

__all__ = [
    "accounts",
    "additions",
    "comments",
    "corpora",
    "dashboards",
    "dictionaries",
    "evaluations",
    "explanations",
    "exports",
    "imports",
    "lists",
    "models",
    "runs",
    "shards",
    "votes",
]
