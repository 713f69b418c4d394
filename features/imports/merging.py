"""Rows of examples and features from all shards of an import, a range of features at a time.

Suffixes: F features, X examples, S recorded values end to end, K kept entries.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from features.imports.activations import INTERVAL, gathered
from features.imports.contexts import Contexts
from features.imports.features_on_disk import FeatureTable
from features.imports.shards import Counts
from features.rows import Chunk, example_rows
from inference.dashboards.results import BANDS, HARD_SILENT, RANDOM_SILENT, Examples

RANGE = 1024
_ARRAYS = ("feature_x", "context_x", "kind_x", "peak_position_x", "peak_value_x")


class Merged:
    """Yields examples in order of feature, group and rank, and leaves what they say of peak tokens in `table`."""

    def __init__(self, contexts: Contexts, table: FeatureTable, counts: Counts) -> None:
        self._contexts, self._table, self._counts = contexts, table, counts
        self.ids_t, self.bounds_c = contexts.ids()
        self.n = 0

    def chunks(self) -> Iterator[tuple[int, Chunk]]:
        """Yield the rows of all examples in order of feature, each chunk with how many features are done after it."""
        columns = [part.array("feature_x") for part in self._contexts.parts]
        last = max((int(column[-1]) for column in columns if len(column)), default=-1)
        for low in range(0, last + 1, RANGE):
            examples = self._range(low, low + RANGE, columns)
            if examples is not None:
                for chunk in example_rows(examples, self.ids_t, self.bounds_c):
                    yield min(low + RANGE, last + 1), chunk

    def _range(self, low: int, high: int, columns: Sequence[np.ndarray]) -> Examples | None:
        gathered_rows = self._gather(low, high, columns)
        if gathered_rows is None:
            return None
        rows, position_s, value_s, indptr_x = gathered_rows
        self._note_peaks(rows, position_s, value_s, indptr_x)
        self.n += len(rows["feature_x"])
        return Examples(
            feature_x=rows["feature_x"],
            group_x=rows["group_x"],
            rank_x=_ranks(rows["feature_x"], rows["group_x"]),
            context_x=rows["context_x"],
            peak_position_x=rows["peak_position_x"],
            peak_value_x=rows["peak_value_x"],
            split_x=np.zeros(len(rows["feature_x"]), dtype=np.uint8),
            indptr_x=indptr_x,
            positions_s=position_s,
            values_s=value_s,
        )

    def _gather(
        self, low: int, high: int, columns: Sequence[np.ndarray]
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray] | None:
        """Return the examples of features low to high from all parts, without duplicates, in their final order."""
        found: dict[str, list[np.ndarray]] = {name: [] for name in (*_ARRAYS, "length_x")}
        position_s, value_s = [], []
        for part, feature_x in zip(self._contexts.parts, columns, strict=True):
            first, last = np.searchsorted(feature_x, [low, high])
            if first == last:
                continue
            for name in _ARRAYS:
                found[name].append(part.array(name)[first:last])
            found["context_x"][-1] = part.context_c[found["context_x"][-1]]
            indptr_x = part.array("indptr_x")[first : last + 1]
            found["length_x"].append(np.diff(indptr_x))
            position_s.append(part.array("positions_s")[indptr_x[0] : indptr_x[-1]])
            value_s.append(part.array("values_s")[indptr_x[0] : indptr_x[-1]])
        if not position_s:
            return None
        rows = {name: np.concatenate(arrays) for name, arrays in found.items()}
        rows["group_x"] = _groups(rows, self._table.maximum_f)
        described = self._table.is_there_f[rows["feature_x"]]
        self._counts.left_out["activations of features that no file describes"] += int((~described).sum())
        order = np.lexsort((np.where(rows["kind_x"] >= HARD_SILENT, 0, -rows["peak_value_x"]), rows["group_x"],
                            rows["feature_x"]))  # fmt: skip
        order = order[described[order]]
        order = order[self._first_of_each(rows, order)]
        length_x = rows.pop("length_x")
        segments = gathered((np.cumsum(length_x) - length_x)[order], length_x[order])
        kept = {name: array[order] for name, array in rows.items()}
        indptr_x = np.concatenate([[0], np.cumsum(length_x[order])])
        return kept, np.concatenate(position_s)[segments], np.concatenate(value_s)[segments], indptr_x

    def _first_of_each(self, rows: Mapping[str, np.ndarray], order: np.ndarray) -> np.ndarray:
        """Return the places in `order` of examples that are no duplicates of an earlier one."""
        feature, group, context, position = (
            rows[name][order].astype(np.int64) for name in ("feature_x", "group_x", "context_x", "peak_position_x")
        )
        # 14 bits of features in a range, 3 of groups, 31 of contexts, 15 of positions.
        keys = (((feature - feature.min(initial=0)) << 3 | group) << 31 | context) << 15 | position
        _, first = np.unique(keys, return_index=True)
        self._counts.duplicates["activations"] += len(order) - len(first)
        return np.sort(first)

    def _note_peaks(
        self, rows: Mapping[str, np.ndarray], position_s: np.ndarray, value_s: np.ndarray, indptr_x: np.ndarray
    ) -> None:
        """Leave each feature's peak tokens: those with most activation in its examples, which are all that is known."""
        length_x = np.diff(indptr_x)
        row_s = np.repeat(np.arange(len(length_x)), length_x)
        fires = value_s > 0
        row_s, value_s, position_s = row_s[fires], value_s[fires], position_s[fires]
        token_s = self.ids_t[self.bounds_c[rows["context_x"][row_s]] + position_s].astype(np.int64)
        key_s = (rows["feature_x"][row_s].astype(np.int64) << 32) | token_s
        keys, inverse, counts = np.unique(key_s, return_inverse=True, return_counts=True)
        if len(keys):
            mass = np.bincount(inverse, weights=value_s)
            self._table.note_peaks(keys >> 32, (keys & 0xFFFFFFFF).astype(np.int64), mass, counts)


def _groups(rows: Mapping[str, np.ndarray], maximum_f: np.ndarray) -> np.ndarray:
    """Return the group of each example: an interval's goes to the band in which its token's activation lies."""
    maximum_x = maximum_f[rows["feature_x"]]
    share_x = np.divide(rows["peak_value_x"], maximum_x, out=np.ones(len(maximum_x), np.float32), where=maximum_x > 0)
    group_x = rows["kind_x"].astype(np.int64)
    for code, (low, high) in BANDS.items():
        is_last = high == max(top for _, top in BANDS.values())
        inside = (share_x > low) & ((share_x <= high) | is_last)
        group_x[(rows["kind_x"] == INTERVAL) & inside] = code
    # SAEDashboard's lowest interval also holds tokens at which nothing fires.
    group_x[(rows["kind_x"] == INTERVAL) & (share_x <= 0)] = RANDOM_SILENT
    return group_x


def _ranks(feature_x: np.ndarray, group_x: np.ndarray) -> np.ndarray:
    """Return each example's place in its feature's group; rows are sorted by both."""
    n = len(feature_x)
    is_first = np.ones(n, dtype=bool)
    is_first[1:] = (np.diff(feature_x) != 0) | (np.diff(group_x) != 0)
    starts = np.flatnonzero(is_first)
    return np.arange(n) - np.repeat(starts, np.diff(np.append(starts, n)))
