"""From the partial results of shards to one dashboard, some features at a time.

Shards are added up in their order, so that the sums, and with them every digit, are the same whichever process made
which shard. What is held of the shards at once is the rows of a block of features: blocks are as large as the memory
allows, and nothing depends on their size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from inference.dashboards import allocator
from inference.dashboards.accumulators import added
from inference.dashboards.bins import FINE_BINS, band_counts, fine_bins, shown_edges, shown_histogram
from inference.dashboards.columns import ColumnReader
from inference.dashboards.contexts import ContextIndex
from inference.dashboards.examples import Selection
from inference.dashboards.geometry import Geometry
from inference.dashboards.pairs import nearest_by_jaccard, nearest_of_pairs
from inference.dashboards.places import Places
from inference.dashboards.recording import ExampleParts, Recorded
from inference.dashboards.results import ContextTable, DictionaryDashboard
from inference.dashboards.token_index import TokenIndex
from inference.dashboards.token_statistics import next_tokens, token_statistics

N_CO_FIRING = 16
DENSE_SHARE = 0.1
# Tables, and how many times their bytes the arrays made of their rows take, the rows themselves included.
_TABLES = dict.fromkeys(("mass", "next", "peaks", "recorded", "bands", "hard", "random"), 3) | {"pairs": 6}
# Bytes of a feature on the way from the shards to the dashboard, beside its rows.
_FEATURE_BYTES = 20_000
_DENSE_CELLS = 1 << 21

Step = Callable[[int], None]


class DictionaryShards:
    """One dictionary's part of the partial results of all shards, in their order."""

    def __init__(self, shards: Sequence[ColumnReader], prefix: str, n_features: int) -> None:
        self.shards, self.prefix, self.n_features = shards, prefix, n_features

    def sum(self, name: str) -> Any:
        """Return the sum of a small array over shards."""
        total = None
        for shard in self.shards:
            array = np.atleast_1d(shard.array(self.prefix + name))
            total = array.astype(array.dtype) if total is None else added(total, array)
        return total

    def every(self, name: str) -> bool:
        """Tell whether a flag is set in every shard."""
        return all(bool(shard.array(self.prefix + name)) for shard in self.shards)

    def rows(self, name: str, features: range) -> Iterator[np.ndarray]:
        """Yield the rows of some features of an array, shard by shard."""
        for shard in self.shards:
            yield shard.array(self.prefix + name, features)

    def tables(self, name: str, features: range) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return `(rows a feature, rows)` of some features of a table, of the shards that have it."""
        return [shard.table(self.prefix + name, features) for shard in self.shards if self.prefix + name in shard]

    def columns(self, name: str, features: range) -> tuple[np.ndarray, np.ndarray]:
        """Return `(feature, row)` of some features of a table over all shards; features count from the first."""
        parts = self.tables(name, features)
        if not parts:
            return np.zeros(0, dtype=np.int64), None  # type: ignore[return-value]
        numbers = np.arange(len(features))
        return np.concatenate([np.repeat(numbers, counts) for counts, _ in parts]), np.concatenate(
            [rows for _, rows in parts]
        )

    def blocks(self, n_bytes: int) -> Iterator[range]:
        """Yield ranges of features whose rows fit in so many bytes, or of one feature."""
        weight_f = np.full(self.n_features, _FEATURE_BYTES, dtype=np.int64)
        for shard in self.shards:
            for name, times in _TABLES.items():
                if self.prefix + name in shard:
                    weight_f += times * shard.row_bytes(self.prefix + name, self.n_features)
        ends = np.cumsum(weight_f)
        first = 0
        while first < self.n_features:
            before = int(ends[first - 1]) if first else 0
            stop = max(first + 1, int(np.searchsorted(ends, before + n_bytes, side="right")))
            yield range(first, stop)
            first = stop


def merged(
    source: str,
    shards: DictionaryShards,
    *,
    index: ContextIndex,
    contexts: ContextTable,
    geometry: Geometry,
    reconstructs: bool,
    n_bytes: int,
    step: Step = lambda done: None,
) -> DictionaryDashboard:
    """Add the shards of one dictionary up and choose its examples; tell `step` how many features are done."""
    n, d_vocab = shards.n_features, len(index.token_count_v)
    count_f, n_tokens = shards.sum("firing_count"), int(shards.sum("n_tokens")[0])
    exact = shards.every("pairs_exact")
    token_index, arrays = TokenIndex(index.token_count_v), {}
    examples = ExampleParts(contexts)
    for features in shards.blocks(n_bytes):
        block = _sums(shards, features)
        fine_bf, maximum_b = block.pop("fine_histogram"), block["maximum_f"]
        block["log_histogram_fb"] = shown_histogram(fine_bf)
        block["band_count_fb"] = band_counts(fine_bf, maximum_b)
        mass = shards.tables("mass", features)
        block |= token_statistics(features, mass, block["total_f"], maximum_b, d_vocab, token_index)
        del mass
        block |= next_tokens(features, shards.tables("next", features), d_vocab)
        block |= _co_firing(shards, features, count_f)
        examples.add(_recorded(shards, features, maximum_b))
        for name, rows in block.items():
            if name not in arrays:
                arrays[name] = np.zeros((n, *rows.shape[1:]), dtype=rows.dtype)
            arrays[name][features.start : features.stop] = rows
        del block
        allocator.give_back()
        step(features.stop)
    l0_histogram = shards.sum("l0_histogram")
    l0_mean, l0_median, l0_p90 = _l0(l0_histogram)
    squared_error = float(shards.sum("squared_error")[0])
    return DictionaryDashboard(
        source=source,
        n_features=n,
        n_tokens=n_tokens,
        n_contexts=index.n_contexts,
        firing_count_f=count_f,
        log_edges_e=shown_edges(),
        co_firing_exact=exact,
        **arrays,
        **geometry.arrays,
        examples=examples.joined(),
        token_features=token_index.finish(),
        l0_mean=l0_mean,
        l0_median=l0_median,
        l0_p90=l0_p90,
        l0_histogram=l0_histogram,
        error_histogram=shards.sum("error_histogram") if reconstructs else np.zeros(0, dtype=np.int64),
        explained_variance=_explained_variance(shards, squared_error, n_tokens) if reconstructs else float("nan"),
        mean_squared_error=squared_error / max(n_tokens, 1) if reconstructs else float("nan"),
        dead=int((count_f == 0).sum()),
        dense=int((count_f > DENSE_SHARE * n_tokens).sum()),
    )


def _sums(shards: DictionaryShards, features: range) -> dict[str, np.ndarray]:
    context_count = np.zeros(len(features), dtype=np.int64)
    powers = np.zeros((len(features), 4))
    maximum = np.zeros(len(features), dtype=np.float32)
    fine = np.zeros((len(features), FINE_BINS), dtype=np.int64)
    for rows in shards.rows("context_count", features):
        context_count += rows
    for rows in shards.rows("powers", features):
        powers += rows
    for rows in shards.rows("maximum", features):
        np.maximum(maximum, rows, out=maximum)
    for rows in shards.rows("fine_histogram", features):
        fine += rows
    total, total_sq, total_cube, total_fourth = np.ascontiguousarray(powers.T)
    return {
        "context_count_f": context_count,
        "total_f": total,
        "total_sq_f": total_sq,
        "total_cube_f": total_cube,
        "total_fourth_f": total_fourth,
        "maximum_f": maximum,
        "fine_histogram": fine,
    }


def _co_firing(shards: DictionaryShards, features: range, count_f: np.ndarray) -> dict[str, np.ndarray]:
    """Return the features with which each fires most."""
    if f"{shards.prefix}pair_matrix" in shards.shards[0]:
        found = _nearest_in_matrix(shards, features, count_f)
    else:
        found = nearest_of_pairs(*_pairs(shards, features), features, count_f, N_CO_FIRING)
    return dict(zip(("co_firing_ids_fk", "co_firing_jaccards_fk", "co_firing_counts_fk"), found, strict=True))


def _nearest_in_matrix(shards: DictionaryShards, features: range, count_f: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return them of counts of all pairs, a few features at a time."""
    found = []
    size = max(1, _DENSE_CELLS // shards.n_features)
    for start in range(features.start, features.stop, size):
        some = range(start, min(start + size, features.stop))
        shared_bf = np.zeros((len(some), shards.n_features), dtype=np.int64)
        for rows in shards.rows("pair_matrix", some):
            shared_bf += rows
        found.append(nearest_by_jaccard(shared_bf, start, count_f, N_CO_FIRING))
    return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))


def _pairs(shards: DictionaryShards, features: range) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return `(row, other, count)` of the pairs that shards kept, added up; rows count from the first feature."""
    row, pairs = shards.columns("pairs", features)
    if not len(row):
        return row, row, row
    codes, inverse = np.unique(row * shards.n_features + pairs["other"], return_inverse=True)
    counts = np.bincount(inverse, weights=pairs["count"], minlength=len(codes)).astype(np.int64)
    return *np.divmod(codes, shards.n_features), counts


def _recorded(shards: DictionaryShards, features: range, maximum_b: np.ndarray) -> Recorded:
    """Choose the examples of some features and collect what was recorded of them."""
    selection = Selection(features)
    feature, peak = shards.columns("peaks", features)
    if len(feature):
        places = Places.of_candidates(peak["token"], peak["context"], peak["position"], peak["key"])
        selection.offer_peaks(feature, np.arange(len(peak)), peak["value"], places)
        of_band, band = shards.columns("bands", features)
        order = np.argsort(of_band, kind="stable")  # a context's firings side by side, as the sample wants them
        of_band, band = of_band[order], band[order]
        places = Places.of_candidates(band["token"], band["context"], band["position"], band["key"])
        value = np.ascontiguousarray(band["value"])
        selection.bands.offer(of_band, np.arange(len(band)), value, fine_bins(value), places)
    of_hard, hard = shards.columns("hard", features)
    if len(of_hard):
        selection.offer_hard(of_hard, hard["context"], hard["position"], np.ascontiguousarray(hard["value"]))
    of_random, random = shards.columns("random", features)
    if len(of_random):
        selection.offer_random(of_random, random["context"])
    chosen = selection.choose(maximum_b)
    recorded = [rows for _, rows in shards.tables("recorded", features)]
    return Recorded.of(
        chosen,
        feature + features.start,
        peak,
        np.concatenate(recorded) if recorded else None,
    )


def _l0(histogram: np.ndarray) -> tuple[float, float, float]:
    """Return the mean, the median and the 90th percentile (lower ones) of the number of firing features."""
    n = max(int(histogram.sum()), 1)
    below = np.cumsum(histogram)
    mean = float((np.arange(len(histogram)) * histogram).sum() / n)
    median, p90 = (float(np.searchsorted(below, share * n)) for share in (0.5, 0.9))
    return mean, median, p90


def _explained_variance(shards: DictionaryShards, squared_error: float, n: int) -> float:
    """Return 1 - sum |y - y_hat|^2 / sum |y - mean y|^2, the mean over all tokens."""
    variance = float(shards.sum("y_squared")[0]) - float(np.square(shards.sum("y_sum")).sum()) / max(n, 1)
    return 1.0 - squared_error / variance if variance > 0 else 0.0
