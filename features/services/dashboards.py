"""Storing what a pass measured: contexts once per tokenization, features and examples in swapped partitions."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from django.db import OperationalError, connection, transaction
from django.utils import timezone
from psycopg import errors

from features import partitions, postings
from features.models import Corpus, Dictionary, LanguageModel, Tokenization
from features.rows import (
    CONTEXT_COLUMNS,
    EXAMPLE_COLUMNS,
    STORED_FEATURE_COLUMNS,
    TOKEN_FEATURE_COLUMNS,
    context_rows,
    example_rows,
    feature_rows,
    token_feature_rows,
)
from features.services import explanations as explanations_service
from features.services.explanations import MethodExplanation
from inference.dashboards.results import ContextTable, DictionaryDashboard
from inference.errors import InvalidInput, Unavailable

SWAP_ATTEMPTS = 6
# What Postgres says where others hold what is to be swapped.
_BUSY = (errors.LockNotAvailable, errors.DeadlockDetected, errors.QueryCanceled)
BINS_PER_DECADE = 4
MAX_L0_BINS = 50
# What is measured of the weights themselves, and stays when dashboards change.
KEPT = ("fidelity",)
STATS = ("n_tokens", "n_contexts", "l0_mean", "l0_median", "l0_p90", "explained_variance", "mean_squared_error")


def attach(
    *,
    corpus: int,
    model: int,
    context_size: int,
    contexts: ContextTable,
    dashboards: Mapping[int, DictionaryDashboard],
    explanations: Mapping[int, Mapping[str, Sequence[MethodExplanation]]] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Tokenization:
    """Store the dashboards of dictionaries (ids) and make them what readers see, all in one moment.

    Everything is written beside what is there; one short transaction then swaps the partitions, the figures of the
    dictionaries and the methods' explanations (by method, of each dictionary). `facts` is JSON-ready provenance.
    Raises what `fill` and `publish` raise.
    """
    tokenization = store_contexts(corpus=corpus, model=model, context_size=context_size, contexts=contexts)
    stats = {
        dictionary: fill(dictionary=dictionary, dashboard=dashboard, contexts=contexts) | dict(facts or {})
        for dictionary, dashboard in dashboards.items()
    }
    publish(tokenization=tokenization, stats=stats, explanations=explanations, has_token_features=True)
    return tokenization


def fill(*, dictionary: int, dashboard: DictionaryDashboard, contexts: ContextTable) -> dict[str, Any]:
    """Write the dashboard of a dictionary (id) beside what readers see; return its figures for `publish`.

    Raises InvalidInput for a dashboard of another number of features.
    """
    _check(Dictionary.objects.get(id=dictionary), dashboard)
    partitions.fill(partitions.features_of(dictionary), STORED_FEATURE_COLUMNS, feature_rows(dashboard))
    examples = example_rows(dashboard.examples, contexts.token_ids_t, contexts.indptr_c)
    partitions.fill(partitions.examples_of(dictionary), EXAMPLE_COLUMNS, examples)
    index = dashboard.token_features
    partitions.fill(partitions.token_features_of(dictionary), TOKEN_FEATURE_COLUMNS, token_feature_rows(index))
    return _stats(dashboard)


def publish(
    *,
    tokenization: Tokenization,
    stats: Mapping[int, Mapping[str, Any]],
    explanations: Mapping[int, Mapping[str, Iterable[MethodExplanation]]] | None = None,
    has_token_features: bool = False,
) -> None:
    """Make the filled partitions of dictionaries (ids) what readers see, with their figures and explanations.

    One short transaction, tried several times: explanations must let themselves be read again. Without
    `has_token_features` those that are stored go. Raises Unavailable where readers hold the tables for so long that it
    has to be given up.
    """
    for attempt in range(SWAP_ATTEMPTS):
        try:
            _swap(tokenization, stats, explanations or {}, has_token_features=has_token_features)
        except OperationalError as error:
            if not isinstance(error.__cause__, _BUSY):
                raise
            if connection.in_atomic_block or attempt == SWAP_ATTEMPTS - 1:
                raise Unavailable(
                    "The new dashboards are written, but readers kept the tables busy.", "Resume the run in a moment."
                ) from error
            time.sleep(0.5 * 2**attempt)
        else:
            break


@transaction.atomic
def store_contexts(*, corpus: int, model: int, context_size: int, contexts: ContextTable) -> Tokenization:
    """Store contexts, or return the tokenization that has the same ones already."""
    Corpus.objects.select_for_update().get(id=corpus)
    known = Tokenization.objects.filter(corpus_id=corpus, model_id=model, sha256=contexts.digest).first()
    if known is not None and partitions.exists(partitions.contexts_of(known.pk)):
        return known
    d_vocab = LanguageModel.objects.values_list("d_vocab", flat=True).get(id=model)
    tokenization = known or Tokenization.objects.create(
        corpus_id=corpus,
        model_id=model,
        context_size=context_size,
        n_contexts=len(contexts),
        n_tokens=contexts.n_tokens,
        sha256=contexts.digest,
        has_bos=contexts.has_bos,
    )
    partition = partitions.contexts_of(tokenization.pk)
    partitions.fill(partition, CONTEXT_COLUMNS, context_rows(contexts, d_vocab))
    partitions.attach(partition)
    return tokenization


@transaction.atomic
def _swap(
    tokenization: Tokenization,
    stats: Mapping[int, Mapping[str, Any]],
    explanations: Mapping[int, Mapping[str, Iterable[MethodExplanation]]],
    *,
    has_token_features: bool,
) -> None:
    # In order of id, as every other place that locks several dictionaries.
    rows = list(Dictionary.objects.select_for_update().filter(id__in=stats).order_by("id"))
    for dictionary, of_dictionary in explanations.items():
        for method, of_method in of_dictionary.items():
            explanations_service.add(dictionary=dictionary, method=method, explanations=of_method)
    now = timezone.now()
    for row in rows:
        kept = {name: row.stats[name] for name in KEPT if name in row.stats}
        row.tokenization, row.built_at, row.stats = tokenization, now, dict(stats[row.pk]) | kept
        row.save(update_fields=["tokenization", "built_at", "stats"])
    for row in rows:
        postings.replace(row.pk)
    # Last, because from here on readers wait.
    with partitions.short_locks():
        for row in rows:
            partitions.attach(partitions.features_of(row.pk))
        for row in rows:
            partitions.attach(partitions.examples_of(row.pk))
        for row in rows:
            (partitions.attach if has_token_features else partitions.drop)(partitions.token_features_of(row.pk))


def _check(dictionary: Dictionary, dashboard: DictionaryDashboard) -> None:
    if dictionary.n_features != dashboard.n_features:
        raise InvalidInput(
            f"The dashboards are of {dashboard.n_features} features, the dictionary {dictionary.source} has"
            f" {dictionary.n_features}.",
            "Build them again.",
            source=dictionary.source,
        )


def _stats(dashboard: DictionaryDashboard) -> dict[str, Any]:
    stats = {name: _finite(getattr(dashboard, name)) for name in (*STATS, "dead", "dense")}
    return stats | {
        "log_edges": [float(edge) for edge in dashboard.log_edges_e],
        "densities": densities(dashboard.density_f[dashboard.firing_count_f > 0]),
        "co_firing_exact": bool(dashboard.co_firing_exact),
        "l0_histogram": tokens_by_l0(dashboard.l0_histogram),
        "error_histogram": dashboard.error_histogram.tolist(),
    }


def tokens_by_l0(count_l: np.ndarray) -> dict[str, Any]:
    """Count tokens by how many features fire there: `counts` of whole numbers from `first` on, `width` to a bin."""
    filled = np.flatnonzero(count_l)
    if not len(filled):
        return {"first": 0, "width": 1, "counts": []}
    first, last = int(filled[0]), int(filled[-1])
    width = -(-(last + 1 - first) // MAX_L0_BINS)
    starts = np.arange(first, last + 1, width)
    return {"first": first, "width": width, "counts": np.add.reduceat(count_l[: last + 1], starts).tolist()}


def densities(density_n: np.ndarray) -> dict[str, Any]:
    """Count live features by density: `counts` of bins `first`, `first` + 1, ... of a quarter of a decade."""
    if not len(density_n):
        return {"first": 0, "per_decade": BINS_PER_DECADE, "counts": []}
    # A density of 1 belongs to the last bin, which ends there.
    bin_n = np.minimum(np.floor(BINS_PER_DECADE * np.log10(density_n)), -1).astype(int)
    first = int(bin_n.min())
    return {"first": first, "per_decade": BINS_PER_DECADE, "counts": np.bincount(bin_n - first).tolist()}


def _finite(value: float) -> float | None:
    number = value.item() if hasattr(value, "item") else value
    return number if math.isfinite(number) else None
