"""The features that a token id makes fire most, gathered while the masses of all features go by.

How strongly feature f fires on token id v is its expected activation there as a share of its maximum: the sum of its
activations on v over the occurrences of v in the text and its maximum. Features that fire everywhere a little come
behind those that fire here strongly.

Suffixes: V token ids, K kept, B features of a block.
"""

from __future__ import annotations

import numpy as np

from inference.dashboards.selection import places
from inference.dashboards.token_features import TokenFeatures

N_KEPT = 16
_MET_AT_ONCE = 1 << 19


class TokenIndex:
    """The best features of every token id so far."""

    def __init__(self, token_count_v: np.ndarray) -> None:
        self._occurrences_v = token_count_v
        none = np.zeros(0, dtype=np.int32)
        self._kept = (none, none, none, np.zeros(0, dtype=np.float32))
        self._waiting: list[tuple[np.ndarray, ...]] = []
        self._n_waiting = 0
        self._worst_v = np.zeros(len(token_count_v), dtype=np.float32)

    def add(self, first: int, mass_bv: np.ndarray, count_bv: np.ndarray, maximum_b: np.ndarray) -> None:
        """Take the masses and counts of features `first`, ..., dense."""
        scale_bv = np.maximum(maximum_b[:, None], np.float32(1e-30)) * np.maximum(self._occurrences_v, 1)
        strength_bv = (mass_bv / scale_bv).astype(np.float32)
        feature, token = np.nonzero((strength_bv > self._worst_v) & (count_bv > 0))
        count, strength = count_bv[feature, token], strength_bv[feature, token]
        self._waiting.append(
            (token.astype(np.int32), (feature + first).astype(np.int32), count.astype(np.int32), strength)
        )
        self._n_waiting += len(token)
        if self._n_waiting > _MET_AT_ONCE:
            self._meet()

    def finish(self) -> TokenFeatures:
        """Return the index."""
        self._meet()
        token, feature, count, strength = self._kept
        row = places_of_groups(token)
        ids = token[np.flatnonzero(places(token) == 0)] if len(token) else token
        shape, place = (len(ids), N_KEPT), places(token)
        features = np.full(shape, -1, dtype=np.int32)
        counts, strengths = np.zeros(shape, dtype=np.int32), np.zeros(shape, dtype=np.float32)
        features[row, place], counts[row, place], strengths[row, place] = feature, count, strength
        return TokenFeatures(
            token_ids_v=ids,
            occurrences_v=self._occurrences_v[ids],
            feature_ids_vk=features,
            counts_vk=counts,
            strengths_vk=strengths,
        )

    def _meet(self) -> None:
        columns = [np.concatenate(parts) for parts in zip(self._kept, *self._waiting, strict=True)]
        token, feature, _, strength = columns
        order = np.lexsort((feature, -strength, token))
        order = order[places(token[order]) < N_KEPT]
        self._kept = tuple(column[order] for column in columns)
        self._waiting, self._n_waiting = [], 0
        token, strength = self._kept[0], self._kept[3]
        full = places(token) == N_KEPT - 1
        self._worst_v[token[full]] = strength[full]


def places_of_groups(sorted_group: np.ndarray) -> np.ndarray:
    """Return the number of each row's group, counted from 0, for rows sorted by group."""
    return np.cumsum(places(sorted_group) == 0) - 1
