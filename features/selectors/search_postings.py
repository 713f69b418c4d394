"""The legs of search that read postings: features by token, and the features of contexts, over all dictionaries.

Suffixes: P postings (a feature of a token or context), N features found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from features import postings
from features.models import Dictionary
from features.postings import CONTEXT, PEAK, PROMOTED, Kind
from features.search import Query
from features.selectors.search_sql import Chips, Found, FoundContext, TokenIds
from features.statistics import Z95

_Z = Z95 * Z95
OfDictionaries = Mapping[tuple[int, ...], Sequence[int]]
_STRENGTHS = {PEAK: "share", PROMOTED: "effect"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Posted:
    """The postings of all that a query looks for, with the ids of its terms, by model, and the model of dictionaries.

    `of_chip` are the contexts that have what `ctx:` asks for, by dictionaries; None without such a chip.
    """

    peak_p: np.ndarray
    promoted_p: np.ndarray
    context_p: np.ndarray
    token_ids: TokenIds
    models: Mapping[int, int]
    of_chip: OfDictionaries | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hits:
    """Features with one of some tokens, the best first: address, token with most of it, strength, firings on them."""

    address_n: np.ndarray
    token_n: np.ndarray
    strength_n: np.ndarray
    count_n: np.ndarray

    def __len__(self) -> int:
        return len(self.address_n)

    def taken(self, places: Any) -> _Hits:
        """Return those at some places."""
        return _Hits(
            address_n=self.address_n[places],
            token_n=self.token_n[places],
            strength_n=self.strength_n[places],
            count_n=self.count_n[places],
        )


def address_of(dictionary_p: np.ndarray, index_p: np.ndarray) -> np.ndarray:
    """Return one number for each address, in their order."""
    return dictionary_p.astype(np.int64) << 32 | index_p


def split(address_n: np.ndarray) -> tuple[list[int], list[int]]:
    """Return the dictionaries and the indices of addresses."""
    return (address_n >> 32).tolist(), (address_n & 0xFFFFFFFF).tolist()


def read(
    query: Query,
    scope: Mapping[int, Dictionary],
    token_ids: TokenIds,
    contexts: Sequence[FoundContext],
    of_chip: OfDictionaries | None,
) -> Posted:
    """Read the postings of a query's tokens and of its contexts. At most three queries."""
    dictionaries: dict[int, list[int]] = {}
    for dictionary in scope.values():
        dictionaries.setdefault(dictionary.model_id, []).append(dictionary.id)

    def of_terms(kind: Kind, terms: Sequence[str]) -> np.ndarray:
        wanted = {
            model: {token for term in terms for token in token_ids[term].get(model, ())} for model in dictionaries
        }
        return postings.read(kind, [(dictionaries[model], tokens) for model, tokens in wanted.items()])

    ordinals: dict[tuple[int, ...], set[int]] = {}
    for context in contexts:
        ordinals.setdefault(context.dictionaries, set()).add(context.ordinal)
    for own, of_own in (of_chip or {}).items():
        ordinals.setdefault(own, set()).update(of_own)
    return Posted(
        peak_p=of_terms(PEAK, (*query.words, *query.tokens)),
        promoted_p=of_terms(PROMOTED, (*query.words, *query.promotes)),
        context_p=postings.read(CONTEXT, ordinals.items()),
        token_ids=token_ids,
        models={dictionary.id: dictionary.model_id for dictionary in scope.values()},
        of_chip=of_chip,
    )


def among(query: Query, posted: Posted) -> np.ndarray | None:
    """Return the addresses of the features that satisfy every chip that postings tell, the surest first.

    None without such a chip.
    """
    found = [_ranked(PEAK, _of_terms(posted, posted.peak_p, [term])).address_n for term in query.tokens]
    found += [_ranked(PROMOTED, _of_terms(posted, posted.promoted_p, [term])).address_n for term in query.promotes]
    if posted.of_chip is not None:
        found.append(_on_top(posted.context_p, posted.of_chip))
    if not found:
        return None
    first, *others = found
    for other in others:
        first = first[np.isin(first, other)]
    return first


def _on_top(posting_p: np.ndarray, contexts: OfDictionaries) -> np.ndarray:
    """Return the addresses of the features that have one of the contexts among their top ones."""
    inside_p = np.zeros(len(posting_p), dtype=bool)
    for dictionaries, own in contexts.items():
        inside_p |= np.isin(posting_p["dictionary"], dictionaries) & np.isin(posting_p["key"], own)
    return np.unique(address_of(posting_p["dictionary"], posting_p["index"])[inside_p])


def _of_terms(posted: Posted, posting_p: np.ndarray, terms: Sequence[str]) -> np.ndarray:
    """Keep the postings of some terms."""
    kept_p = np.zeros(len(posting_p), dtype=bool)
    for model in set(posted.models.values()):
        tokens = [token for term in terms for token in posted.token_ids[term].get(model, ())]
        own = [dictionary for dictionary, of_model in posted.models.items() if of_model == model]
        kept_p |= np.isin(posting_p["key"], tokens) & np.isin(posting_p["dictionary"], own)
    return posting_p[kept_p]


def peaking(chips: Chips, posted: Posted, limit: int) -> Found:
    """Return features that peak on one of the terms, the surest first.

    They are ranked by the lower end of Wilson's interval (Wilson 1927) of the share of activation mass on the tokens,
    with the firings on them as its observations: all of two firings is less than most of a thousand.
    """
    hits = _ranked(PEAK, _of_terms(posted, posted.peak_p, chips.query.words or chips.query.tokens))
    return _found(chips, hits, limit, "peaks on “{}”, {:.0%} of its activation (n = {:,.0f})")


def promoting(chips: Chips, posted: Posted, limit: int) -> Found:
    """Return features that promote one of the terms, the largest centred logit effects first."""
    hits = _ranked(PROMOTED, _of_terms(posted, posted.promoted_p, chips.query.words or chips.query.promotes))
    return _found(chips, hits, limit, "promotes “{}” by {:+.2f}")


def _ranked(kind: Kind, posting_p: np.ndarray) -> _Hits:
    """Return every feature of some postings of tokens, the best first."""
    value_p = posting_p[_STRENGTHS[kind]].astype(np.float64)
    address_p = address_of(posting_p["dictionary"], posting_p["index"])
    # Of a feature with several of the tokens, the first is the one with most, as it will be named.
    order = np.lexsort((posting_p["key"], -value_p, address_p))
    address_p, value_p = address_p[order], value_p[order]
    first = np.flatnonzero(np.diff(address_p, prepend=-1))
    strength_n = worth_n = value_p[first]
    count_n = np.zeros(len(first), dtype=np.int64)
    if kind is PEAK and len(first):
        strength_n = np.minimum(np.add.reduceat(value_p, first), 1.0)
        count_n = np.maximum(np.add.reduceat(posting_p["count"][order].astype(np.int64), first), 1)
        worth_n = _wilson_low(strength_n, count_n)
    hits = _Hits(
        address_n=address_p[first],
        token_n=posting_p["key"][order[first]],
        strength_n=strength_n,
        count_n=count_n,
    )
    return hits.taken(np.lexsort((hits.address_n, -worth_n)))


def _wilson_low(share_n: np.ndarray, n_n: np.ndarray) -> np.ndarray:
    spread_n = Z95 * np.sqrt((share_n * (1 - share_n) + _Z / 4 / n_n) / n_n)
    return (share_n + _Z / 2 / n_n - spread_n) / (1 + _Z / n_n)


def _found(chips: Chips, hits: _Hits, limit: int, says: str) -> Found:
    """Say of the best hits among those of the chips why they were found; all are counted."""
    if chips.among is not None:
        hits = hits.taken(np.isin(hits.address_n, chips.among))
    total, hits = len(hits), hits.taken(slice(limit))
    columns = *split(hits.address_n), hits.token_n.tolist(), hits.strength_n.tolist(), hits.count_n.tolist()
    return Found(
        why={
            (dictionary, index): says.format(
                chips.token_texts[chips.scope[dictionary].model_id, token], strength, count
            )
            for dictionary, index, token, strength, count in zip(*columns, strict=True)
        },
        total=total,
    )
