"""From the partial results of shards to one dashboard.

Shards are added up in their order, so that the sums, and with them every digit, are the same whichever process made
which shard and whichever were resumed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from inference.dashboards.bins import band_counts, fine_bins, shown_edges, shown_histogram
from inference.dashboards.events import gather_ranges
from inference.dashboards.examples import Chosen, Selection
from inference.dashboards.geometry import LogitEffects
from inference.dashboards.pairs import add_counts, nearest_by_jaccard
from inference.dashboards.results import ContextTable, DictionaryDashboard, Examples

N_PEAK_TOKENS = 16
N_CO_FIRING = 16
DENSE_SHARE = 0.1
_BLOCK_CELLS = 1 << 21
_SUMS = (
    "firing_count",
    "context_count",
    "powers",
    "fine_histogram",
    "n_tokens",
    "squared_error",
    "y_squared",
    "y_sum",
    "l0_histogram",
)

Arrays = Mapping[str, np.ndarray]


def offer_partial(selection: Selection, arrays: Arrays) -> None:
    """Give a selection the candidates of a partial result that was made earlier."""
    if "peak_feature" in arrays:
        selection.offer_peaks(arrays["peak_feature"], arrays["peak_token"], arrays["peak_value"])
        value = arrays["band_value"]
        selection.bands.offer(arrays["band_feature"], arrays["band_token"], value, fine_bins(value))
    if "hard_feature" in arrays:
        selection.offer_hard(*(arrays[f"hard_{name}"] for name in ("feature", "context", "position", "value")))
    if "random_feature" in arrays:
        selection.offer_random(arrays["random_feature"], arrays["random_context"])


class DashboardBuilder:
    """Adds the shards of one dictionary up."""

    def __init__(self, *, source: str, n_features: int, d_vocab: int, contexts: ContextTable, selection: Selection):
        self.source = source
        self.n_features = n_features
        self.d_vocab = d_vocab
        self.contexts = contexts
        self._selection = selection
        self._sums: dict[str, np.ndarray] = {}
        self._maximum = np.zeros(n_features, dtype=np.float32)
        self._mass: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._pairs: tuple[np.ndarray, np.ndarray] | None = None
        self._triangle: np.ndarray | None = None
        self._exact = True
        self._recorded: _Recorded | None = None
        self._chosen: Chosen | None = None

    def add(self, arrays: Arrays) -> None:
        """Add one shard's sums. Call in the order of shards."""
        for name in _SUMS:
            self._sums[name] = _plus(self._sums[name], arrays[name]) if name in self._sums else arrays[name].copy()
        self._maximum = np.maximum(self._maximum, arrays["maximum"])
        self._mass.append((arrays["mass_codes"], arrays["mass"], arrays["mass_counts"]))
        self._exact &= bool(arrays["pairs_exact"])
        if "pair_triangle" in arrays:
            triangle = arrays["pair_triangle"]
            self._triangle = triangle.astype(np.int64) if self._triangle is None else self._triangle + triangle
        else:
            mine = arrays["pair_codes"], arrays["pair_counts"]
            self._pairs = mine if self._pairs is None else add_counts(*self._pairs, *mine)

    def choose(self) -> None:
        """Choose the examples; call after the last `add` and before the first `record`."""
        self._chosen = self._selection.choose(self._maximum)
        self._recorded = _Recorded(self._chosen)

    def record(self, arrays: Arrays) -> None:
        """Take the recorded activations of chosen examples from one shard."""
        if "peak_feature" in arrays:
            self._recorded.take(arrays)

    def dashboard(self, neighbours: tuple[np.ndarray, np.ndarray], effects: LogitEffects) -> DictionaryDashboard:
        """Return the finished dashboard."""
        sums, n_tokens = self._sums, int(self._sums["n_tokens"])
        count_f = sums["firing_count"]
        co_firing_ids, co_firing_jaccards, co_firing_counts = nearest_by_jaccard(
            *self._pair_table(), count_f, N_CO_FIRING
        )
        l0_mean, l0_median, l0_p90 = _l0(sums["l0_histogram"])
        total, total_sq, total_cube, total_fourth = sums["powers"]
        return DictionaryDashboard(
            source=self.source,
            n_features=self.n_features,
            n_tokens=n_tokens,
            n_contexts=len(self.contexts),
            firing_count_f=count_f,
            context_count_f=sums["context_count"],
            total_f=total,
            total_sq_f=total_sq,
            total_cube_f=total_cube,
            total_fourth_f=total_fourth,
            maximum_f=self._maximum,
            log_histogram_fb=shown_histogram(sums["fine_histogram"]),
            log_edges_e=shown_edges(),
            band_count_fb=band_counts(sums["fine_histogram"], self._maximum),
            **_token_statistics(self._mass, total, self.n_features, self.d_vocab),
            co_firing_ids_fk=co_firing_ids,
            co_firing_jaccards_fk=co_firing_jaccards,
            co_firing_counts_fk=co_firing_counts,
            co_firing_exact=self._exact,
            decoder_neighbour_ids_fk=neighbours[0],
            decoder_neighbour_cosines_fk=neighbours[1],
            promoted_ids_fk=effects.promoted_ids_fk,
            promoted_values_fk=effects.promoted_values_fk,
            suppressed_ids_fk=effects.suppressed_ids_fk,
            suppressed_values_fk=effects.suppressed_values_fk,
            logit_histogram_fb=effects.histogram_fb,
            logit_edges_fe=effects.edges_fe,
            logit_deviation_f=effects.deviation_f,
            logit_skewness_f=effects.skewness_f,
            logit_kurtosis_f=effects.kurtosis_f,
            examples=self._recorded.examples(self.contexts),
            l0_mean=l0_mean,
            l0_median=l0_median,
            l0_p90=l0_p90,
            explained_variance=_explained_variance(sums, n_tokens),
            mean_squared_error=float(sums["squared_error"]) / max(n_tokens, 1),
            dead=int((count_f == 0).sum()),
            dense=int((count_f > DENSE_SHARE * n_tokens).sum()),
        )

    def _pair_table(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if self._triangle is not None:
            left, right = np.triu_indices(self.n_features, 1)
            together = np.flatnonzero(self._triangle)
            return left[together], right[together], self._triangle[together]
        codes, counts = self._pairs
        return codes // self.n_features, codes % self.n_features, counts


class _Recorded:
    """Recorded activations of chosen examples, collected shard by shard."""

    def __init__(self, chosen: Chosen) -> None:
        self.chosen = chosen
        self._length_x = np.zeros(len(chosen.feature_x), dtype=np.int64)
        self._parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        active = chosen.value_x > 0
        active &= chosen.group_x <= 5
        self._rows = np.flatnonzero(active)
        self._codes = chosen.feature_x[self._rows].astype(np.int64) << 32 | chosen.context_x[self._rows]
        order = np.argsort(self._codes)
        self._rows, self._codes = self._rows[order], self._codes[order]

    def take(self, arrays: Arrays) -> None:
        codes = arrays["peak_feature"].astype(np.int64) << 32 | arrays["peak_context"]
        place = np.minimum(np.searchsorted(self._codes, codes), max(len(self._codes) - 1, 0))
        hits = np.flatnonzero(self._codes[place] == codes) if len(self._codes) else place[:0]
        lengths = arrays["recorded_length"].astype(np.int64)
        stops = np.cumsum(lengths)
        numbers = gather_ranges((stops - lengths)[hits], stops[hits])
        rows = self._rows[place[hits]]
        self._length_x[rows] = lengths[hits]
        self._parts.append((rows, arrays["recorded_position"][numbers], arrays["recorded_value"][numbers]))

    def examples(self, contexts: ContextTable) -> Examples:
        chosen, indptr = self.chosen, np.concatenate([[0], np.cumsum(self._length_x)])
        positions = np.zeros(indptr[-1], dtype=np.uint16)
        values = np.zeros(indptr[-1], dtype=np.float16)
        for rows, part_positions, part_values in self._parts:
            numbers = gather_ranges(indptr[rows], indptr[rows + 1])
            positions[numbers], values[numbers] = part_positions, part_values
        return Examples(
            feature_x=chosen.feature_x,
            group_x=chosen.group_x,
            rank_x=chosen.rank_x,
            context_x=chosen.context_x,
            peak_position_x=chosen.position_x,
            peak_value_x=chosen.value_x,
            split_x=contexts.split_c[chosen.context_x],
            indptr_x=indptr,
            positions_s=positions,
            values_s=values,
        )


def _token_statistics(
    parts: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]], total_f: np.ndarray, n_features: int, d_vocab: int
) -> dict[str, np.ndarray]:
    """Return entropy and most activating token ids, a block of features at a time."""
    parts = list(parts)
    k = min(N_PEAK_TOKENS, d_vocab)
    entropy = np.zeros(n_features, dtype=np.float32)
    n_seen = np.zeros(n_features, dtype=np.int32)
    ids = np.full((n_features, N_PEAK_TOKENS), -1, dtype=np.int32)
    counts = np.zeros((n_features, N_PEAK_TOKENS), dtype=np.int32)
    shares = np.zeros((n_features, N_PEAK_TOKENS), dtype=np.float32)
    block = max(1, _BLOCK_CELLS // d_vocab)
    for start in range(0, n_features, block):
        size = min(block, n_features - start)
        mass_v, count_v = np.zeros(size * d_vocab), np.zeros(size * d_vocab, dtype=np.int64)
        for codes, mass, count in parts:
            low, high = np.searchsorted(codes, [start * d_vocab, (start + size) * d_vocab])
            cells = codes[low:high].astype(np.int64) - start * d_vocab
            mass_v[cells] += mass[low:high]
            count_v[cells] += count[low:high]
        mass_v, count_v = mass_v.reshape(size, d_vocab), count_v.reshape(size, d_vocab)
        rows = slice(start, start + size)
        share_v = mass_v / np.maximum(total_f[rows, None], 1e-300)
        entropy[rows] = -(share_v * np.log(np.where(share_v > 0, share_v, 1.0))).sum(1)
        n_seen[rows] = (count_v > 0).sum(1)
        near = np.argpartition(-mass_v, k - 1, axis=1)[:, :k]
        near.sort(axis=1)
        order = np.argsort(-np.take_along_axis(mass_v, near, 1), axis=1, kind="stable")
        best = np.take_along_axis(near, order, 1)
        counts[rows, :k] = np.take_along_axis(count_v, best, 1)
        shares[rows, :k] = np.take_along_axis(share_v, best, 1)
        ids[rows, :k] = np.where(counts[rows, :k] > 0, best, -1)
    return {
        "token_entropy_f": np.maximum(entropy, 0),
        "n_tokens_seen_f": n_seen,
        "peak_token_ids_fk": ids,
        "peak_token_counts_fk": counts,
        "peak_token_shares_fk": shares,
    }


def _l0(histogram: np.ndarray) -> tuple[float, float, float]:
    """Return the mean, the median and the 90th percentile (lower ones) of the number of firing features."""
    n = max(int(histogram.sum()), 1)
    below = np.cumsum(histogram)
    mean = float((np.arange(len(histogram)) * histogram).sum() / n)
    median, p90 = (float(np.searchsorted(below, share * n)) for share in (0.5, 0.9))
    return mean, median, p90


def _explained_variance(sums: Mapping[str, np.ndarray], n: int) -> float:
    """Return 1 - sum |y - y_hat|^2 / sum |y - mean y|^2, the mean over all tokens."""
    variance = float(sums["y_squared"]) - float(np.square(sums["y_sum"]).sum()) / max(n, 1)
    return 1.0 - float(sums["squared_error"]) / variance if variance > 0 else 0.0


def _plus(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if a.shape == b.shape:
        return a + b
    longer, shorter = (a, b) if len(a) >= len(b) else (b, a)
    total = longer.copy()
    total[: len(shorter)] += shorter
    return total
