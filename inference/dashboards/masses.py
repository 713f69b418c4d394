"""How much each feature fires on each token id: summed in memory, set aside in a file when there is too much of it.

A code is feature * d_vocab + token id. Runs of ascending codes gather and are merged; when the merged run is long it
goes to a file, and in the end all runs meet, a few features at a time. Which sums are formed, and in which order, is
decided by the firings alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import numpy as np

from inference.dashboards.columns import ColumnWriter, RowType, structured
from inference.dashboards.events import sum_by_code

MASS_ROW = [("token", "<u4"), ("count", "<u4"), ("mass", "<f8")]
COUNT_ROW = [("token", "<u4"), ("count", "<u4")]
_RUN_ROW = [("code", "<i8"), ("count", "<i8"), ("mass", "<f8")]
# Pairs of feature and token that are counted at once.
_CELLS_AT_ONCE = 1 << 21
# Rows of the merged run that may stay in memory.
_LONGEST_RUN = 2_000_000
_WRITTEN_AT_ONCE = 1 << 20


class TokenMasses:
    """Sums and counts of the activations of every feature on every token id."""

    def __init__(self, n_features: int, d_vocab: int) -> None:
        self.n_features, self.d_vocab = n_features, d_vocab
        self._merged = structured(_RUN_ROW, code=np.zeros(0), count=np.zeros(0), mass=np.zeros(0))
        self._aside: list[np.ndarray] = []

    def add(self, feature_e: np.ndarray, id_e: np.ndarray, value_e: np.ndarray) -> None:
        """Add activations, sorted by feature, on the token ids `id_e`."""
        block = max(1, _CELLS_AT_ONCE // self.d_vocab)
        fresh = []
        for first in range(0, self.n_features, block):
            low, high = np.searchsorted(feature_e, [first, first + block])
            own = slice(int(low), int(high))
            code_e = (feature_e[own] - first).astype(np.int64) * self.d_vocab + id_e[own]
            codes, mass, counts = sum_by_code(code_e, value_e[own], block * self.d_vocab)
            fresh.append(structured(_RUN_ROW, code=codes + first * self.d_vocab, count=counts, mass=mass))
        self._merged = _met([self._merged, np.concatenate(fresh)])
        if len(self._merged) > _LONGEST_RUN:
            self._set_aside()

    def write(self, writer: ColumnWriter, name: str, row_type: RowType) -> None:
        """Write a table with some of the columns `token`, `count` and `mass`, sorted by feature and token id."""
        count_f = np.zeros(self.n_features, dtype=np.int64)
        with writer.rows(name, row_type) as append:
            for rows in self._by_features():
                feature, token = np.divmod(rows["code"], self.d_vocab)
                count_f += np.bincount(feature, minlength=self.n_features)
                columns = {"token": token, "count": rows["count"], "mass": rows["mass"]}
                append(structured(row_type, **{column: columns[column] for column, _ in row_type}))
        writer.indptr(name, count_f)

    def _by_features(self) -> Iterator[np.ndarray]:
        """Yield the sums of all runs, some whole features at a time."""
        runs = [*self._aside, self._merged]
        total = sum(map(len, runs))
        steps = max(1, -(-total // _WRITTEN_AT_ONCE))
        edges = np.unique(np.linspace(0, self.n_features, steps + 1).astype(np.int64)) * self.d_vocab
        places = [np.searchsorted(run["code"], edges) for run in runs]
        for step in range(len(edges) - 1):
            yield _met([run[place[step] : place[step + 1]] for run, place in zip(runs, places, strict=True)])

    def _set_aside(self) -> None:
        with tempfile.TemporaryFile(prefix="facet-masses-") as file:
            file.write(memoryview(self._merged).cast("B"))
            file.flush()
            self._aside.append(np.memmap(file, dtype=self._merged.dtype, mode="r"))
        self._merged = self._merged[:0].copy()


def _met(runs: list[np.ndarray]) -> np.ndarray:
    """Return the sum of runs of ascending codes; equal codes are added in the order of the runs."""
    runs = [run for run in runs if len(run)] or runs[:1]
    if len(runs) == 1:
        return np.asarray(runs[0])
    rows = np.concatenate(runs)
    order = np.argsort(rows["code"], kind="stable")
    codes = rows["code"][order]
    starts = np.flatnonzero(np.concatenate([[True], codes[1:] != codes[:-1]]))
    return structured(
        _RUN_ROW,
        code=codes[starts],
        count=np.add.reduceat(rows["count"][order], starts),
        mass=np.add.reduceat(rows["mass"][order], starts),
    )
