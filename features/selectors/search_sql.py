"""What the legs of search share: the chips that every hit must satisfy, and the statements that ask for them.

Token ids mean different things in different models. A statement over partitions has a branch for each dictionary, so
that Postgres plans with its partition and no other.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from django.db import connection

from features.models import Dictionary, VocabularyToken
from features.search import Query
from features.selectors.feature_rows import Address, TokenTexts, array_of
from features.words import fold

# Explanations that are ranked where very many match; hits of a kind that are asked what only their rows can tell.
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

    def satisfied(self, kept: Collection[Address], limit: int) -> Found:
        """Return the first of those that are kept; only what is told why was asked."""
        why = {address: said for address, said in self.why.items() if address in kept}
        shown = dict(islice(why.items(), limit))
        return Found(why=shown, total=len(why), capped=self.capped or self.total > len(self.why))


@dataclass(frozen=True, slots=True, kw_only=True)
class Chips:
    """What every hit must satisfy: the chips of the query.

    `among` are the addresses (search_postings.address_of) of the features that satisfy each of the chips `tok:`,
    `promotes:` and `ctx:`, the surest first; None without such a chip. `is_restricted` tells whether there are
    dictionaries outside the scope.
    """

    query: Query
    scope: Mapping[int, Dictionary]
    token_texts: TokenTexts
    among: np.ndarray | None
    is_restricted: bool

    @property
    def ask_explained(self) -> bool:
        """Tell whether a chip asks for what the explanations that were found do not say of their features."""
        return bool(self.query.excluded or self.query.has_density)

    @property
    def ask_others(self) -> bool:
        """Tell the same of the postings that were found."""
        return bool(self.ask_explained or self.query.labels)

    def bounds(self, dictionary: Dictionary) -> list[tuple[str, int]] | None:
        """Return the comparisons of firings that the density asks for; None where nothing can satisfy them."""
        wanted = ((">=", math.ceil, self.query.density_low), ("<=", math.floor, self.query.density_high))
        n_tokens = dictionary.stats.get("n_tokens")
        if not n_tokens:
            return None if self.query.has_density else []
        return [(sign, whole(min(bound, 1.0) * n_tokens)) for sign, whole, bound in wanted if bound is not None]

    def said(self) -> tuple[str, list[str]]:
        """Return the conditions on explanations of `f`, a feature, with their parameters."""
        own = (
            "EXISTS (SELECT FROM features_explanation e WHERE e.dictionary_id = f.dictionary_id"
            ' AND e."index" = f."index" AND e.words @@ facet_prose_query(%s))'
        )
        labels, excluded = self.query.labels, self.query.excluded
        clauses = [own] * len(labels) + [f"NOT {own}"] * len(excluded)
        return " AND ".join(clauses) or "TRUE", [*labels, *excluded]


def satisfying(chips: Chips, addresses: Iterable[Address]) -> set[Address]:
    """Return the features that satisfy the chips `label:`, `density:` and those after a dash. At most one query."""
    addresses = set(addresses)
    if not addresses:
        return addresses
    indices: dict[int, list[int]] = {}
    for dictionary, index in addresses:
        indices.setdefault(dictionary, []).append(index)
    said, said_params = chips.said()
    if not chips.query.has_density:
        pairs = [array_of(dictionary for dictionary, _ in addresses), array_of(index for _, index in addresses)]
        sql = f'SELECT * FROM unnest(%s::int[], %s::int[]) f(dictionary_id, "index") WHERE {said}'
        return _addresses(sql, [*pairs, *said_params])
    branches, params = [], []
    for dictionary, wanted in indices.items():
        bounds = chips.bounds(chips.scope[dictionary])
        if bounds is None:
            continue
        within = " AND ".join(f"f.firing_count {sign} {firings:d}" for sign, firings in bounds)
        branches.append(f"""
            SELECT f.dictionary_id, f."index" FROM features_feature f
            WHERE f.dictionary_id = %s AND f."index" = ANY(%s::int[]) AND {within} AND {said}
        """)
        params += [dictionary, array_of(wanted), *said_params]
    return _addresses(" UNION ALL ".join(branches), params) if branches else set()


def _addresses(sql: str, params: Sequence[Any]) -> set[Address]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return set(cursor.fetchall())


def tokens_of_terms(dictionaries: Iterable[Dictionary], terms: Collection[str]) -> tuple[TokenIds, TokenTexts]:
    """Return `{term: {model id: ids}}` of tokens that are a term, and texts. One query.

    Tokens are compared up to case and white space around them, but for terms that have white space there, which are
    compared as they are.
    """
    found: dict[str, dict[int, list[int]]] = {term: {} for term in terms}
    texts: dict[tuple[int, int], str] = {}
    if not terms:
        return found, texts
    models = {dictionary.model_id for dictionary in dictionaries}
    folded: dict[str, list[tuple[str, str | None]]] = {}
    for term in terms:
        exact = term.replace(r"\n", "\n").replace(r"\t", "\t")
        if exact != exact.strip():
            folded.setdefault(fold(exact), []).append((term, exact))
        if term == term.strip():
            folded.setdefault(fold(term), []).append((term, None))
    tokens = VocabularyToken.objects.filter(model_id__in=models, folded__in=list(folded))
    columns = ("model_id", "token_id", "folded", "text")
    for model, token, folded_text, text in tokens.order_by("model_id", "token_id").values_list(*columns):
        texts[model, token] = text
        for term, exact in folded[folded_text]:
            if exact is None or exact == text:
                found[term].setdefault(model, []).append(token)
    return found, texts


def by_density(chips: Chips, limit: int) -> Found:
    """Return the features that fire most among those within the density. One query.

    Every dictionary gives its own most frequent ones, from the index of firings; they are counted up to MAX_COUNTED.
    """
    branches, counted, params, counted_params = [], [], [], []
    said, said_params = chips.said()
    for dictionary in chips.scope.values():
        n_tokens, bounds = dictionary.stats.get("n_tokens"), chips.bounds(dictionary)
        if not n_tokens or bounds is None:
            continue
        within = "".join(f" AND f.firing_count {sign} {firings:d}" for sign, firings in bounds)
        rows = f"FROM features_feature f WHERE f.dictionary_id = %s{within} AND {said}"
        branches.append(f"""
            (SELECT f.dictionary_id, f."index", f.firing_count / %s::float8 AS density {rows}
             ORDER BY f.firing_count DESC, f."index" LIMIT {limit:d})
        """)
        params += [n_tokens, dictionary.id, *said_params]
        counted.append(f"SELECT 1 {rows}")
        counted_params += [dictionary.id, *said_params]
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
