"""What one shard knows of one dictionary: sums that add up, and candidates for examples.

Activations come in batches, in token order; when enough have gathered they are sorted by feature and reduced. What
leaves is `arrays()`, the dictionary's part of a partial result.

Suffixes: E events (one feature at one token), R runs (one feature in one context), F features, T tokens, O outputs.
"""

from __future__ import annotations

import numpy as np

from inference.dashboards.bins import FINE_BINS, fine_bins
from inference.dashboards.events import Events, Runs, gather_ranges, sum_by_code
from inference.dashboards.examples import Selection
from inference.dashboards.pairs import PairCounts
from inference.dashboards.results import ContextTable
from inference.packing import to_half

_EVENTS_AT_ONCE = 1_500_000
# Pairs of feature and token that are counted at once.
_CELLS_AT_ONCE = 1 << 21


class ShardAccumulator:
    """Sums and candidates of one dictionary over one shard."""

    def __init__(
        self, *, n_features: int, d_out: int, d_vocab: int, contexts: ContextTable, selection: Selection
    ) -> None:
        self.n_features = n_features
        self.d_vocab = d_vocab
        self.contexts = contexts
        self.selection = selection
        self.sums = {
            "firing_count": np.zeros(n_features, dtype=np.int64),
            "context_count": np.zeros(n_features, dtype=np.int64),
            "powers": np.zeros((4, n_features)),
            "maximum": np.zeros(n_features, dtype=np.float32),
            "fine_histogram": np.zeros((n_features, FINE_BINS), dtype=np.int64),
            "n_tokens": np.zeros((), dtype=np.int64),
            "squared_error": np.zeros(()),
            "y_squared": np.zeros(()),
            "y_sum": np.zeros(d_out),
        }
        self._l0 = np.zeros(1, dtype=np.int64)
        self._pairs = PairCounts(n_features)
        self._mass = np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0, dtype=np.int64)
        self._candidates: list[dict[str, np.ndarray]] = []
        self._silent: dict[str, list[np.ndarray]] = {}
        self._waiting: list[tuple[np.ndarray, ...]] = []
        self._n_waiting = 0
        self._index_type = np.uint16 if n_features <= 1 << 16 else np.int32

    def add_activations(
        self, feature_e: np.ndarray, value_e: np.ndarray, firing_t: np.ndarray, l0_t: np.ndarray, token_t: np.ndarray
    ) -> None:
        """Take a batch of activations above zero, `firing_t` of them at each of the corpus's tokens `token_t`.

        `l0_t` counts those below zero too, where the architecture has them.
        """
        self._waiting.append((feature_e.astype(self._index_type), value_e, firing_t, token_t))
        self._n_waiting += len(value_e)
        self._l0 = _added(self._l0, np.bincount(l0_t))
        self.sums["n_tokens"] += len(token_t)
        if self._n_waiting >= _EVENTS_AT_ONCE:
            self.reduce()

    def add_errors(self, squared_error: float, y_squared: float, y_sum_o: np.ndarray) -> None:
        """Take a batch's sums of |y - y_hat|^2, |y|^2 and y."""
        self.sums["squared_error"] += squared_error
        self.sums["y_squared"] += y_squared
        self.sums["y_sum"] += y_sum_o

    def add_silent(self, **columns: np.ndarray) -> None:
        """Keep columns of candidates for silent examples."""
        for name, column in columns.items():
            self._silent.setdefault(name, []).append(column)

    def reduce(self) -> None:
        """Reduce the activations that have gathered."""
        if not self._waiting:
            return
        feature_e, value_e, firing_t, token_t = (np.concatenate(parts) for parts in zip(*self._waiting, strict=True))
        self._waiting, self._n_waiting = [], 0
        self._pairs.add(feature_e, firing_t)
        events = Events.from_tokens(feature_e, value_e, firing_t, token_t, self.n_features)
        del feature_e, value_e, firing_t, token_t
        runs = Runs.of(events, self.selection.places.context_t[events.token_e])
        fine_e = fine_bins(events.value_e)
        self._add_moments(events, runs, fine_e)
        self._add_token_mass(events)
        self._keep_candidates(events, runs, fine_e)

    def arrays(self) -> dict[str, np.ndarray]:
        """Reduce what is left and return everything for a partial result."""
        self.reduce()
        codes, mass, counts = self._mass
        parts = self._candidates
        candidates = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}
        silent = {name: np.concatenate(parts) for name, parts in self._silent.items()}
        return {
            **self.sums,
            "l0_histogram": self._l0,
            "mass_codes": codes.astype(np.min_scalar_type(self.n_features * self.d_vocab)),
            "mass": mass,
            "mass_counts": counts.astype(np.uint32),
            "pairs_exact": np.array(self._pairs.exact),
            **self._pairs.upper_triangle(),
            **candidates,
            **silent,
        }

    def _add_moments(self, events: Events, runs: Runs, fine_e: np.ndarray) -> None:
        count_f = events.count_f
        self.sums["firing_count"] += count_f
        self.sums["context_count"] += np.bincount(runs.feature_r, minlength=self.n_features)
        firing = np.flatnonzero(count_f)
        if not len(firing):
            return
        starts = (np.cumsum(count_f) - count_f)[firing]
        value_e = events.value_e.astype(np.float64)
        power_e = np.ones_like(value_e)
        for row in self.sums["powers"]:
            power_e *= value_e
            row[firing] += np.add.reduceat(power_e, starts)
        run_starts = np.searchsorted(runs.feature_r, firing)
        highest = np.maximum.reduceat(runs.peak_value_r, run_starts)
        self.sums["maximum"][firing] = np.maximum(self.sums["maximum"][firing], highest)
        binned = events.feature_e * FINE_BINS + fine_e
        counts = np.bincount(binned, minlength=self.n_features * FINE_BINS)
        self.sums["fine_histogram"] += counts.reshape(self.n_features, FINE_BINS)

    def _add_token_mass(self, events: Events) -> None:
        block = max(1, _CELLS_AT_ONCE // self.d_vocab)
        parts = []
        for first in range(0, self.n_features, block):
            low, high = np.searchsorted(events.feature_e, [first, first + block])
            own = slice(int(low), int(high))
            code_e = (events.feature_e[own] - first).astype(np.int64) * self.d_vocab
            code_e += self.contexts.token_ids_t[events.token_e[own]]
            codes, mass, counts = sum_by_code(code_e, events.value_e[own], block * self.d_vocab)
            parts.append((codes + first * self.d_vocab, mass, counts))
        fresh = tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))
        if not len(self._mass[0]):
            self._mass = fresh
            return
        codes, mass, counts = (np.concatenate(pair) for pair in zip(self._mass, fresh, strict=True))
        every, inverse = np.unique(codes, return_inverse=True)
        self._mass = (
            every,
            np.bincount(inverse, weights=mass, minlength=len(every)),
            np.bincount(inverse, weights=counts, minlength=len(every)).astype(np.int64),
        )

    def _keep_candidates(self, events: Events, runs: Runs, fine_e: np.ndarray) -> None:
        useful_r = self.selection.offer_peaks(runs.feature_r, runs.peak_token_r, runs.peak_value_r)
        drawn = self.selection.bands.offer(events.feature_e, events.token_e, events.value_e, fine_e)
        useful_r[np.searchsorted(runs.indptr_r, drawn, side="right") - 1] = True
        useful = np.flatnonzero(useful_r)
        starts, stops = runs.indptr_r[useful], runs.indptr_r[useful + 1]
        rows = gather_ranges(starts, stops)
        context_r = runs.context_r[useful]
        first_token = self.contexts.indptr_c[np.repeat(context_r, stops - starts)]
        self._candidates.append(
            {
                "peak_feature": runs.feature_r[useful],
                "peak_token": runs.peak_token_r[useful],
                "peak_context": context_r,
                "peak_value": runs.peak_value_r[useful],
                "recorded_length": (stops - starts).astype(np.uint16),
                "recorded_position": (events.token_e[rows] - first_token).astype(np.uint16),
                "recorded_value": to_half(events.value_e[rows]),
                "band_feature": events.feature_e[drawn],
                "band_token": events.token_e[drawn],
                "band_value": events.value_e[drawn],
            }
        )


def _added(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    longer, shorter = (a, b) if len(a) >= len(b) else (b, a)
    total = longer.copy()
    total[: len(shorter)] += shorter
    return total
