"""What choosing examples needs to know of each place where a feature may fire, looked up once for all dictionaries.

A place is a token of a shard, or, when candidates of many shards meet, the token of a candidate: whoever offers
firings says at which places, by number. Suffix P: places.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inference.dashboards.corpus import local_keys
from inference.dashboards.gathering import Stretch


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Columns over places."""

    token_p: np.ndarray  # int64, the token's number in the corpus, BOS included
    context_p: np.ndarray  # int32, the context's number in the corpus
    position_p: np.ndarray  # int32, the token's place in its context
    eligible_p: np.ndarray  # bool, False in duplicates of earlier contexts
    key_p: np.ndarray  # uint64, equal where the surroundings are
    lot_p: np.ndarray  # uint32, the key's upper half

    @classmethod
    def of(cls, stretch: Stretch) -> Places:
        """Return all tokens of a stretch of contexts."""
        lengths, key_p = np.diff(stretch.indptr_c), local_keys(stretch)
        number_c = np.arange(len(stretch), dtype=np.int32) + np.int32(stretch.first_context)
        n = len(stretch.token_ids_t)
        return cls(
            token_p=np.arange(n) + stretch.first_token,
            context_p=np.repeat(number_c, lengths),
            position_p=(np.arange(n) - np.repeat(stretch.indptr_c[:-1], lengths)).astype(np.int32),
            eligible_p=np.repeat(stretch.duplicate_of_c == number_c, lengths),
            key_p=key_p,
            lot_p=upper_half(key_p),
        )

    @classmethod
    def of_candidates(cls, token: np.ndarray, context: np.ndarray, position: np.ndarray, key: np.ndarray) -> Places:
        """Return the places of candidates, which are eligible."""
        return cls(
            token_p=token.astype(np.int64),
            context_p=context.astype(np.int32),
            position_p=position.astype(np.int32),
            eligible_p=np.ones(len(token), dtype=bool),
            key_p=key.astype(np.uint64),
            lot_p=upper_half(key.astype(np.uint64)),
        )


def upper_half(key: np.ndarray) -> np.ndarray:
    """Return the upper 32 bits, uint32."""
    return (key >> np.uint64(32)).astype(np.uint32)
