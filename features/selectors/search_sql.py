"""The queries of search that find features: each is one statement, whatever the number of models and dictionaries.

Token ids mean different things in different models, so a statement has one branch per model. Every branch names its
dictionaries, so that Postgres prunes to their partitions.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection

from features.models import Dictionary, VocabularyToken
from features.search import Query
from features.selectors.feature_rows import Address, TokenTexts
from features.words import fold

# Features, or explanations, that are ranked and counted where there are very many.
CANDIDATES = 1000
MAX_COUNTED = 10_000
TokenIds = Mapping[str, Mapping[int, list[int]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundContext:
    """A context that matches, with the dictionaries that were built on its tokenization."""

    tokenization: int
    ordinal: int
    document: int
    line: int
    text: str
    document_name: str
    corpus_slug: str
    spans: bytes
    dictionaries: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Why each feature was found, the best first; how many there are, or were counted before the cap."""

    why: Mapping[Address, str]
    total: int = 0
    capped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Chips:
    """What every hit must satisfy: the chips of the query. `contexts` is None without a `ctx:` chip.

    `is_restricted` tells whether there are dictionaries outside the scope.
    """

    query: Query
    scope: Mapping[int, Dictionary]
    token_ids: TokenIds
    token_texts: TokenTexts
    contexts: Sequence[FoundContext] | None
    is_restricted: bool

    def models(self) -> dict[int, list[int]]:
        """Return `{model id: dictionary ids}` of the scope."""
        models: dict[int, list[int]] = {}
        for dictionary in self.scope.values():
            models.setdefault(dictionary.model_id, []).append(dictionary.id)
        return models

    def clauses(
        self, model: int, *, labels: bool = True, contexts: bool = True, density: bool = True
    ) -> tuple[str, list[Any]]:
        """Return conditions on `f`, a feature, and `d`, its dictionary, with their parameters."""
        clauses, params = [], []
        for terms, column in ((self.query.tokens, "peak_token_ids"), (self.query.promotes, "promoted_ids")):
            for term in terms:
                clauses.append(f"f.{column} && %s::int[]")
                params.append(self.token_ids.get(term, {}).get(model, []))
        if labels:
            for label in self.query.labels:
                clauses.append(
                    "EXISTS (SELECT 1 FROM features_explanation own WHERE own.dictionary_id = f.dictionary_id"
                    ' AND own."index" = f."index" AND own.words @@ facet_prose_query(%s))'
                )
                params.append(label)
        for word in self.query.excluded:
            clauses.append(
                "NOT EXISTS (SELECT 1 FROM features_explanation other WHERE other.dictionary_id = f.dictionary_id"
                ' AND other."index" = f."index" AND other.words @@ facet_prose_query(%s))'
            )
            params.append(word)
        for bound, sign in ((self.query.density_low, ">="), (self.query.density_high, "<=")):
            if bound is not None and density:
                clauses.append(f"f.firing_count {sign} %s * (d.stats->>'n_tokens')::float8")
                params.append(bound)
        if contexts and self.contexts is not None:
            inside, ordinals = examples_in(self.contexts)
            clauses.append(
                '(f.dictionary_id, f."index") IN'
                f' (SELECT x.dictionary_id, x."index" FROM features_example x WHERE {inside})'
            )
            params.extend(ordinals)
        return " AND ".join(clauses) or "TRUE", params

    @property
    def ask_more(self) -> bool:
        """Tell whether a chip other than `ctx:` asks for something of features."""
        query = self.query
        return bool(query.labels or query.tokens or query.promotes or query.has_density)

    @property
    def ask_more_than_terms(self) -> bool:
        """Tell whether what was found by the tokens of one chip, or of free words, has to satisfy anything else."""
        query = self.query
        n_chips = len(query.labels) + len(query.tokens) + len(query.promotes) + len(query.excluded) + query.has_density
        return n_chips > (not query.words) or self.contexts is not None

    @property
    def on_features(self) -> bool:
        """Tell whether a chip other than `label:` says anything about features."""
        query = self.query
        return bool(query.tokens or query.promotes or query.has_density or query.excluded or self.contexts is not None)


def examples_in(contexts: Sequence[FoundContext]) -> tuple[str, list[Any]]:
    """Return the condition on `x`, the examples of a feature with a top one in one of the contexts, and parameters."""
    ordinals: dict[tuple[int, ...], list[int]] = {}
    for context in contexts:
        ordinals.setdefault(context.dictionaries, []).append(context.ordinal)
    clauses, params = [], []
    for dictionaries, inside in ordinals.items():
        clauses.append("(x.dictionary_id = ANY(%s) AND x.top_contexts && %s::int[])")
        params.extend([list(dictionaries), inside])
    return f"({' OR '.join(clauses) or 'FALSE'})", params


def tokens_of_terms(dictionaries: Iterable[Dictionary], terms: Collection[str]) -> tuple[TokenIds, TokenTexts]:
    """Return `{term: {model id: ids}}` of tokens that are a term up to white space and case, and texts. One query."""
    found: dict[str, dict[int, list[int]]] = {term: {} for term in terms}
    texts: dict[tuple[int, int], str] = {}
    if not terms:
        return found, texts
    models = {dictionary.model_id for dictionary in dictionaries}
    folded: dict[str, list[str]] = {}
    for term in terms:
        folded.setdefault(fold(term), []).append(term)
    tokens = VocabularyToken.objects.filter(model_id__in=models, folded__in=[text for text in folded if text])
    columns = ("model_id", "token_id", "folded", "text")
    for model, token, folded_text, text in tokens.order_by("model_id", "token_id").values_list(*columns):
        texts[model, token] = text
        for term in folded[folded_text]:
            found[term].setdefault(model, []).append(token)
    return found, texts


def by_density(chips: Chips, limit: int) -> Found:
    """Return the features that fire most among those within the density. One query.

    Every dictionary gives its own most frequent ones, from the index of firings; they are counted up to MAX_COUNTED.
    """
    branches, counted, params, counted_params = [], [], [], []
    for dictionary in chips.scope.values():
        n_tokens = dictionary.stats.get("n_tokens")
        if not n_tokens:
            continue
        clauses, chip_params = chips.clauses(dictionary.model_id, density=False)
        low, high = chips.query.density_low, chips.query.density_high
        for bound, sign in ((low, ">="), (high, "<=")):
            if bound is not None:
                clauses += f" AND f.firing_count {sign} %s"
                chip_params.append((math.ceil if sign == ">=" else math.floor)(min(bound, 1.0) * n_tokens))
        rows = f"FROM features_feature f WHERE f.dictionary_id = %s AND {clauses}"
        branches.append(f"""
            (SELECT f.dictionary_id, f."index", f.firing_count / %s::float8 AS density {rows}
             ORDER BY f.firing_count DESC, f."index" LIMIT {limit:d})
        """)
        params.extend([n_tokens, dictionary.id, *chip_params])
        counted.append(f"SELECT 1 {rows}")
        counted_params.extend([dictionary.id, *chip_params])
    if not branches:
        return Found(why={})
    sql = f"""
        SELECT dictionary_id, "index", density,
               (SELECT count(*) FROM (SELECT 1 FROM ({" UNION ALL ".join(counted)}) a LIMIT {MAX_COUNTED}) b)
        FROM ({" UNION ALL ".join(branches)}) hits ORDER BY density DESC, dictionary_id, "index" LIMIT %s
    """
    with connection.cursor() as cursor:
        cursor.execute(sql, [*counted_params, *params, limit])
        rows = cursor.fetchall()
    why = {(dictionary, index): f"fires on {density:.3%} of tokens" for dictionary, index, density, _ in rows}
    total = rows[0][-1] if rows else 0
    return Found(why=why, total=total, capped=total >= MAX_COUNTED)
