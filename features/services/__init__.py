"""Every write: keyword-only functions, each in a transaction, that raise inference.errors.FacetError."""

from features.services import (
    comments,
    corpora,
    dashboards,
    dictionaries,
    evaluations,
    explanations,
    lists,
    models,
    runs,
    votes,
)

__all__ = [
    "comments",
    "corpora",
    "dashboards",
    "dictionaries",
    "evaluations",
    "explanations",
    "lists",
    "models",
    "runs",
    "votes",
]
