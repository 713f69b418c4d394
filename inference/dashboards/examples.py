"""Choosing examples: the top contexts, a sample of every band of activation, and contexts where a feature is silent.

The top and the silent are chosen here, bands in `bands.py`. Samples are those of lowest hash, so that neither the order
nor the number of shards matters. Contexts that agree around the token for which they are chosen count once
(`corpus.local_keys`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from inference.dashboards.bands import N_BAND, BandSample, salts
from inference.dashboards.corpus import mixed
from inference.dashboards.places import Places
from inference.dashboards.results import HARD_SILENT, RANDOM_SILENT, TOP
from inference.dashboards.selection import Best, Candidates, by_lot, by_value

N_TOP, N_SILENT = 20, 5
_HALF_WORD = np.uint64(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Examples without their recorded activations, sorted by feature (of the dictionary), group and rank."""

    feature_x: np.ndarray
    group_x: np.ndarray
    rank_x: np.ndarray
    context_x: np.ndarray
    position_x: np.ndarray
    value_x: np.ndarray


class Selection:
    """The examples of some features of a dictionary while a pass goes on.

    Features count from 0 here, at the first of them, and contexts over the corpus.
    """

    def __init__(self, features: range) -> None:
        self.features = features
        n_features = len(features)
        self._salt_f = salts(features)
        self.top = Best(n_features, N_TOP)
        self.bands = BandSample(features)
        self.hard = Best(n_features, N_SILENT)
        # Twice as many, since some may turn out to be hard ones.
        self.random = Best(n_features, 2 * N_SILENT)

    def offer_peaks(self, feature: np.ndarray, place: np.ndarray, value: np.ndarray, places: Places) -> np.ndarray:
        """Take the peaks of features in contexts; return which may become examples of the top."""
        context, eligible = places.context_p[place], places.eligible_p[place]
        group, rank = feature.astype(np.int64), by_value(value, context)
        rows = np.flatnonzero(eligible & self.top.admits(group, rank))
        self.top.add(
            Candidates(
                group=group[rows],
                rank=rank[rows],
                identity=places.key_p[place[rows]].view(np.int64),
                context=context[rows],
                position=places.position_p[place[rows]],
                value=value[rows],
            )
        )
        self.top.compact()
        # Asked again now that they have met each other: most are out, and need not be written.
        return eligible & self.top.admits(group, rank)

    def peak_admits(self, feature: np.ndarray, context: np.ndarray, value: np.ndarray) -> np.ndarray:
        """Return which peaks that were taken may still become examples of the top."""
        return self.top.admits(feature.astype(np.int64), by_value(value, context))

    def hard_admits(self, feature: np.ndarray, context: np.ndarray, height: np.ndarray) -> np.ndarray:
        """Return which contexts where features are silent may be among those where they nearly fire."""
        return self.hard.admits(feature, by_value(height, context))

    def offer_hard(self, feature: np.ndarray, context: np.ndarray, position: np.ndarray, height: np.ndarray) -> None:
        """Take contexts where features are silent, with the highest pre-activation and where it is."""
        self.hard.add(_of_contexts(feature, context, position, height, by_value(height, context)))

    def hard_may_admit(self, height_cf: np.ndarray | Tensor) -> np.ndarray | Tensor:
        """Return what `hard_admits` admits of all features in some contexts, and little more, many times faster.

        Heights may be an array, or a tensor on any device, which they do not leave.
        """
        worst_f = self.hard.worst_values()
        return height_cf >= (torch.from_numpy(worst_f).to(height_cf) if isinstance(height_cf, Tensor) else worst_f)

    def random_admits(self, feature: np.ndarray, context: np.ndarray) -> np.ndarray:
        """Return which contexts where features are silent they may draw."""
        return self.random.admits(feature, self._drawn(feature, context))

    def random_may_admit(self, context_c: np.ndarray) -> np.ndarray:
        """Return what `random_admits` admits of all features in some contexts, and little more, [C, F]."""
        lot_cf = mixed(mixed(context_c.astype(np.uint64))[:, None] ^ self._salt_f)
        lot_cf >>= _HALF_WORD
        return lot_cf <= self.random.worst_lots()

    def offer_random(self, feature: np.ndarray, context: np.ndarray) -> None:
        """Take contexts where features are silent."""
        none = np.zeros(len(feature))
        self.random.add(_of_contexts(feature, context, none, none, self._drawn(feature, context)))

    def choose(self, maximum_f: np.ndarray) -> Chosen:
        """Return the examples, now that the maxima are known."""
        top = self.top.kept()
        bands, band = self.bands.fill(top, maximum_f)
        hard = self.hard.kept()
        random = _without(self.random.kept(), hard)
        parts = [
            _ranked_in_group(top, np.full(len(top), TOP), top.group, N_TOP),
            _ranked_in_group(bands, band, bands.group << 3 | band, N_BAND),
            _ranked_in_group(hard, np.full(len(hard), HARD_SILENT), hard.group, N_SILENT),
            _ranked_in_group(random, np.full(len(random), RANDOM_SILENT), random.group, N_SILENT),
        ]
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
        order = np.lexsort((columns[2], columns[1], columns[0]))
        feature, group, rank, context, position, value = (column[order] for column in columns)
        return Chosen(
            feature_x=(feature + self.features.start).astype(np.int32),
            group_x=group.astype(np.uint8),
            rank_x=rank.astype(np.uint16),
            context_x=context.astype(np.int32),
            position_x=position.astype(np.uint16),
            value_x=value.astype(np.float32),
        )

    def _drawn(self, feature: np.ndarray, context: np.ndarray) -> np.ndarray:
        lot = mixed(mixed(context.astype(np.uint64)) ^ self._salt_f[feature]) >> _HALF_WORD
        return by_lot(lot, context)


def _of_contexts(
    feature: np.ndarray, context: np.ndarray, position: np.ndarray, value: np.ndarray, rank: np.ndarray
) -> Candidates:
    return Candidates(
        group=feature.astype(np.int64),
        rank=rank,
        identity=context.astype(np.int64),
        context=context.astype(np.int32),
        position=position.astype(np.int32),
        value=value.astype(np.float32),
    )


def _without(candidates: Candidates, others: Candidates) -> Candidates:
    taken = np.isin(candidates.group << 32 | candidates.context, others.group << 32 | others.context)
    return candidates.take(np.flatnonzero(~taken))


def _ranked_in_group(candidates: Candidates, code: np.ndarray, group: np.ndarray, size: int) -> tuple[np.ndarray, ...]:
    """Return (feature, group code, rank, context, position, value) of rows sorted by group, at most `size` each."""
    starts = np.concatenate([[True], group[1:] != group[:-1]]) if len(group) else np.zeros(0, dtype=bool)
    first = np.flatnonzero(starts)
    place = np.arange(len(group)) - np.repeat(first, np.diff(first, append=len(group)))
    keep = place < size
    columns = (candidates.group, code, place, candidates.context, candidates.position, candidates.value)
    return tuple(column[keep] for column in columns)
