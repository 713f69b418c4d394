"""The candidates for examples that a shard offers, until they are written: those that others beat since are dropped.

Whether a candidate may still be an example is asked again whenever many have gathered and before they are written, so
that what is held grows with what is kept of each feature and not with the text.
"""

from __future__ import annotations

import threading

import numpy as np

from inference.dashboards.columns import ColumnWriter
from inference.dashboards.events import gather_ranges
from inference.dashboards.examples import Selection

# Rows of the tables of a partial result. Positions count in the context, the others over the corpus.
PEAK_ROW = [
    ("token", "<i8"), ("context", "<i4"), ("position", "<u2"), ("length", "<u2"), ("key", "<u8"), ("value", "<f4"),
]  # fmt: skip
RECORDED_ROW = [("position", "<u2"), ("value", "<f2")]
_ROWS = {
    "peaks": PEAK_ROW,
    "bands": [("token", "<i8"), ("context", "<i4"), ("position", "<u2"), ("key", "<u8"), ("value", "<f4")],
    "hard": [("context", "<i4"), ("position", "<u2"), ("value", "<f4")],
    "random": [("context", "<i4")],
}
# Bytes that may gather before they are looked through, or twice what was left then.
_LOOKED_THROUGH = 64_000_000

Columns = dict[str, np.ndarray]


class Offered:
    """Candidates of one dictionary: peaks with the activations of their contexts, and those of the other tables.

    Those of features that fire and those of silent ones may be added in two threads.
    """

    def __init__(self, n_features: int, selection: Selection) -> None:
        self.n_features = n_features
        self.selection = selection
        self._parts: dict[str, list[Columns]] = {name: [] for name in (*_ROWS, "recorded")}
        self._n_bytes, self._most = 0, _LOOKED_THROUGH
        self._lock = threading.Lock()

    def add_peaks(self, recorded: Columns, **columns: np.ndarray) -> None:
        """Take peaks, `length` of whose activations each are in `recorded`, end to end."""
        self._add({"recorded": recorded, "peaks": columns})

    def add(self, table: str, **columns: np.ndarray) -> None:
        """Take candidates of a table."""
        self._add({table: columns})

    def _add(self, tables: dict[str, Columns]) -> None:
        with self._lock:
            for table, columns in tables.items():
                self._parts[table].append(columns)
                self._n_bytes += _size(columns)
            if self._n_bytes > self._most:
                self._look_through()
                self._most = max(_LOOKED_THROUGH, 2 * self._n_bytes)

    def write(self, writer: ColumnWriter, prefix: str) -> None:
        """Write the tables, and let what was held go."""
        self._look_through()
        recorded = self._taken("recorded")
        for name, row in _ROWS.items():
            if not (columns := self._taken(name)):
                continue
            if name == "peaks":
                feature = np.repeat(columns["feature"], columns["length"])
                writer.table(f"{prefix}recorded", RECORDED_ROW, feature, self.n_features, **recorded)
                del recorded, feature
            writer.table(prefix + name, row, n_features=self.n_features, **columns)

    def _look_through(self) -> None:
        """Drop what cannot become an example any more."""
        if bands := self._taken("bands"):
            admitted = self.selection.bands.admits(bands["feature"], bands["token"], bands["key"], bands["value"])
            bands = _rows(bands, np.flatnonzero(admitted))
            self._parts["bands"] = [bands]
        if peaks := self._taken("peaks"):
            admitted = self.selection.peak_admits(peaks["feature"], peaks["context"], peaks["value"])
            admitted |= np.isin(_where(peaks), _where(bands)) if bands else False
            stops = np.cumsum(peaks["length"].astype(np.int64))
            kept = np.flatnonzero(admitted)
            activations = gather_ranges(stops[kept] - peaks["length"][kept], stops[kept])
            self._parts["recorded"] = [_rows(self._taken("recorded"), activations)]
            self._parts["peaks"] = [_rows(peaks, kept)]
        if hard := self._taken("hard"):
            admitted = self.selection.hard_admits(hard["feature"], hard["context"], hard["value"])
            self._parts["hard"] = [_rows(hard, np.flatnonzero(admitted))]
        if random := self._taken("random"):
            admitted = self.selection.random_admits(random["feature"], random["context"])
            self._parts["random"] = [_rows(random, np.flatnonzero(admitted))]
        self._n_bytes = sum(_size(columns) for parts in self._parts.values() for columns in parts)

    def _taken(self, table: str) -> Columns:
        """Return the columns of a table, which are no longer held."""
        parts, self._parts[table] = self._parts[table], []
        if len(parts) < 2:
            return parts[0] if parts else {}
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _where(columns: Columns) -> np.ndarray:
    return columns["feature"].astype(np.int64) << 32 | columns["context"]


def _rows(columns: Columns, rows: np.ndarray) -> Columns:
    return {name: column[rows] for name, column in columns.items()}


def _size(columns: Columns) -> int:
    return sum(column.nbytes for column in columns.values())
