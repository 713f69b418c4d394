"""Recorded activations of the examples that were chosen.

Suffixes: X examples, S recorded activations, F features, K kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inference.dashboards.events import gather_ranges
from inference.dashboards.examples import Chosen
from inference.dashboards.results import ContextTable, Examples

_LAST_FIRING_GROUP = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """Chosen examples of some features with their recorded activations."""

    chosen: Chosen
    indptr_x: np.ndarray
    positions_s: np.ndarray
    values_s: np.ndarray

    @classmethod
    def of(cls, chosen: Chosen, feature: np.ndarray, peaks: np.ndarray | None, recorded: np.ndarray | None) -> Recorded:
        """Find the recorded activations of chosen examples among those of candidates, `length` of each peak.

        Candidates come shard by shard, in each shard by feature, and their activations in the same order.
        """
        length_x = np.zeros(len(chosen.feature_x), dtype=np.int64)
        first_x = np.zeros(len(length_x), dtype=np.int64)
        if peaks is not None and len(peaks):
            stops = np.cumsum(peaks["length"].astype(np.int64))
            code = feature.astype(np.int64) << 32 | peaks["context"]
            order = np.argsort(code, kind="stable")
            rows = np.flatnonzero((chosen.value_x > 0) & (chosen.group_x <= _LAST_FIRING_GROUP))
            wanted = chosen.feature_x[rows].astype(np.int64) << 32 | chosen.context_x[rows]
            found = order[np.searchsorted(code[order], wanted)]
            length_x[rows] = peaks["length"][found]
            first_x[rows] = stops[found] - length_x[rows]
        taken = gather_ranges(first_x, first_x + length_x)
        return cls(
            chosen=chosen,
            indptr_x=np.concatenate([[0], np.cumsum(length_x)]),
            positions_s=recorded["position"][taken] if recorded is not None else taken.astype(np.uint16),
            values_s=recorded["value"][taken] if recorded is not None else taken.astype(np.float16),
        )


class ExampleParts:
    """The examples of one block of features after another."""

    def __init__(self, contexts: ContextTable) -> None:
        self._contexts = contexts
        self._parts: list[Recorded] = []

    def add(self, recorded: Recorded) -> None:
        """Take the examples of the next features."""
        self._parts.append(recorded)

    def joined(self) -> Examples:
        """Return all examples, in order of feature, group and rank."""
        chosen = [part.chosen for part in self._parts]
        lengths = np.concatenate([np.diff(part.indptr_x) for part in self._parts])
        context_x = np.concatenate([part.context_x for part in chosen])
        return Examples(
            feature_x=np.concatenate([part.feature_x for part in chosen]),
            group_x=np.concatenate([part.group_x for part in chosen]),
            rank_x=np.concatenate([part.rank_x for part in chosen]),
            context_x=context_x,
            peak_position_x=np.concatenate([part.position_x for part in chosen]),
            peak_value_x=np.concatenate([part.value_x for part in chosen]),
            split_x=self._contexts.split_c[context_x],
            indptr_x=np.concatenate([[0], np.cumsum(lengths)]),
            positions_s=np.concatenate([part.positions_s for part in self._parts]),
            values_s=np.concatenate([part.values_s for part in self._parts]),
        )
