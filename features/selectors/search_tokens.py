"""The legs of search that find features by token: from postings, over all dictionaries in one statement.

Suffixes: P postings, N features found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.db import connection

from features import postings
from features.selectors.feature_rows import Address, array_of
from features.selectors.search_sql import CANDIDATES, Chips, Found
from features.statistics import Z95

_Z = Z95 * Z95


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hits:
    """Features with one of the tokens, the best first: address, token with most of it, strength, firings on them."""

    dictionary_n: np.ndarray
    index_n: np.ndarray
    token_n: np.ndarray
    strength_n: np.ndarray
    count_n: np.ndarray

    def __len__(self) -> int:
        return len(self.index_n)

    def taken(self, places: Any) -> _Hits:
        """Return those at some places."""
        return _Hits(
            dictionary_n=self.dictionary_n[places],
            index_n=self.index_n[places],
            token_n=self.token_n[places],
            strength_n=self.strength_n[places],
            count_n=self.count_n[places],
        )


def peaking(chips: Chips, limit: int) -> Found:
    """Return features that peak on one of the terms, the surest first. At most two queries.

    They are ranked by the lower end of Wilson's interval (Wilson 1927) of the share of activation mass on the tokens,
    with the firings on them as its observations: all of two firings is less than most of a thousand.
    """
    hits = _find(chips, chips.query.words or chips.query.tokens, postings.KIND_PEAK)
    return _found(chips, hits, limit, "peaks on “{}”, {:.0%} of its activation (n = {:,.0f})")


def promoting(chips: Chips, limit: int) -> Found:
    """Return features that promote one of the terms, the largest centred logit effects first. At most two queries."""
    hits = _find(chips, chips.query.words or chips.query.promotes, postings.KIND_PROMOTED)
    return _found(chips, hits, limit, "promotes “{}” by {:+.2f}")


def _find(chips: Chips, terms: Sequence[str], kind: int) -> _Hits:
    """Return every feature with one of the terms, the best first."""
    tokens = {
        dictionary: {token for term in terms for token in chips.token_ids.get(term, {}).get(model, ())}
        for model, dictionaries in chips.models().items()
        for dictionary in dictionaries
    }
    read = list(postings.read(kind, tokens))
    dictionary_p = np.repeat([key for key, _ in read], [len(part) for _, part in read]).astype(np.int64)
    index_p, token_p, value_p, count_p = (
        np.concatenate([getattr(part, name) for _, part in read] or [np.zeros(0)])
        for name in ("index_p", "token_p", "value_p", "count_p")
    )
    # Of a feature with several of the tokens, the first is the one with most, as it will be named.
    order = np.lexsort((token_p, -value_p, index_p, dictionary_p))
    dictionary_p, index_p, token_p = (column[order].astype(np.int64) for column in (dictionary_p, index_p, token_p))
    value_p, count_p = value_p[order], count_p[order]
    first = np.flatnonzero(np.diff(dictionary_p, prepend=-1) | np.diff(index_p, prepend=-1))
    if not len(first):
        strength_n, count_n, worth_n = value_p, count_p, value_p
    elif kind == postings.KIND_PEAK:
        strength_n = np.minimum(np.add.reduceat(value_p, first), 1.0)
        count_n = np.maximum(np.add.reduceat(count_p, first), 1)
        worth_n = _wilson_low(strength_n, count_n)
    else:
        strength_n, count_n = value_p[first], count_p[first]
        worth_n = strength_n
    hits = _Hits(
        dictionary_n=dictionary_p[first],
        index_n=index_p[first],
        token_n=token_p[first],
        strength_n=strength_n,
        count_n=count_n,
    )
    return hits.taken(np.lexsort((hits.index_n, hits.dictionary_n, -worth_n)))


def _wilson_low(share_n: np.ndarray, n_n: np.ndarray) -> np.ndarray:
    spread_n = Z95 * np.sqrt((share_n * (1 - share_n) + _Z / 4 / n_n) / n_n)
    return (share_n + _Z / 2 / n_n - spread_n) / (1 + _Z / n_n)


def _found(chips: Chips, hits: _Hits, limit: int, says: str) -> Found:
    """Return the best hits that satisfy the chips: of very many only the first CANDIDATES are asked about."""
    n_found = len(hits)
    if n_found and chips.ask_more_than_terms:
        hits = hits.taken(slice(CANDIDATES))
        kept = _satisfying(chips, list(zip(hits.dictionary_n.tolist(), hits.index_n.tolist(), strict=True)))
        capped, total = n_found > CANDIDATES, len(kept)
        hits = hits.taken(np.array([place for place, _ in kept], dtype=np.int64))
    else:
        capped, total = False, n_found
    hits = hits.taken(slice(limit))
    columns = (hits.dictionary_n, hits.index_n, hits.token_n, hits.strength_n, hits.count_n)
    return Found(
        why={
            (dictionary, index): says.format(
                chips.token_texts[chips.scope[dictionary].model_id, token], strength, count
            )
            for dictionary, index, token, strength, count in zip(*(c.tolist() for c in columns), strict=True)
        },
        total=total,
        capped=capped,
    )


def _satisfying(chips: Chips, addresses: Sequence[Address]) -> list[tuple[int, Address]]:
    """Return the places and addresses of the features that satisfy every chip. One query."""
    indices: dict[int, list[int]] = {}
    for dictionary, index in addresses:
        indices.setdefault(dictionary, []).append(index)
    branches, params = [], []
    for dictionary, wanted in indices.items():
        clauses, chip_params = chips.clauses(chips.scope[dictionary].model_id)
        branches.append(f"""
            (SELECT f.dictionary_id, f."index" FROM features_feature f
             JOIN features_dictionary d ON d.id = f.dictionary_id
             WHERE f.dictionary_id = %s AND f."index" = ANY(%s::int[]) AND {clauses})
        """)
        params += [dictionary, array_of(wanted), *chip_params]
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(branches), params)
        kept = set(cursor.fetchall())
    return [(place, address) for place, address in enumerate(addresses) if address in kept]
