"""What one shard knows of one dictionary: sums that add up, and candidates for examples.

Activations come in batches, in token order; those that have gathered are sorted by feature and reduced, on the device
where they are, while others gather. What leaves is the dictionary's part of a partial result, written by `write`.

Suffixes: E events (one feature at one token), R runs (one feature in one context), F features, T tokens of the shard,
O outputs.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from inference.dashboards.bins import FINE_BINS, error_bins, fine_bins_of_bits
from inference.dashboards.columns import ColumnWriter
from inference.dashboards.events import Events, Firings, Runs, gather_ranges
from inference.dashboards.examples import Selection
from inference.dashboards.gathering import Stretch
from inference.dashboards.masses import COUNT_ROW, MASS_ROW, TokenMasses
from inference.dashboards.offered import Offered
from inference.dashboards.pairs import PairCounts
from inference.dashboards.places import Places
from inference.dictionaries.sparse import SparseActivations
from inference.packing import to_half
from kernels.event_stats import EventStats, event_stats

_EVENTS_AT_ONCE = 1_500_000

# Features, values, how many fire at each token, and the tokens' places in the shard.
Activated = tuple[Tensor, Tensor, Tensor, Tensor]


class ShardAccumulator:
    """Sums and candidates of one dictionary over one shard."""

    def __init__(
        self,
        *,
        n_features: int,
        d_out: int,
        d_vocab: int,
        stretch: Stretch,
        places: Places,
        selection: Selection,
        device: torch.device,
    ) -> None:
        self.n_features = n_features
        self.stretch = stretch
        self.places = places
        self.selection = selection
        self.sums = {
            "context_count": np.zeros(n_features, dtype=np.int64),
            "n_tokens": np.zeros((), dtype=np.int64),
            "squared_error": np.zeros(()),
            "y_squared": np.zeros(()),
            "y_sum": np.zeros(d_out),
            "error_histogram": np.zeros(FINE_BINS, dtype=np.int64),
        }
        self._l0 = np.zeros(1, dtype=np.int64)
        self._context_p = torch.from_numpy(places.context_p).to(device)
        self._stats = EventStats.none(n_features, FINE_BINS, device)
        self._pairs = PairCounts(n_features, device)
        self._masses = TokenMasses(n_features, d_vocab)
        self._next = TokenMasses(n_features, d_vocab)
        self._offered = Offered(n_features, selection)
        self._waiting: list[Activated] = []
        self._n_waiting = 0

    @property
    def has_enough(self) -> bool:
        """Whether so many activations have gathered that they are worth reducing, and should not become more."""
        return self._n_waiting >= _EVENTS_AT_ONCE

    def take_gathered(self) -> list[Activated]:
        """Return the activations that have gathered, which are then the caller's to reduce, in this order."""
        waiting, self._waiting, self._n_waiting = self._waiting, [], 0
        return waiting

    def add_activations(self, activations: SparseActivations, l0_t: np.ndarray, place_t: np.ndarray) -> None:
        """Take a batch of activations above zero at the shard's tokens `place_t`.

        `l0_t` counts those below zero too, where the architecture has them.
        """
        place = torch.from_numpy(place_t).to(activations.indptr.device)
        self._waiting.append((activations.indices_n.int(), activations.values_n.float(), activations.counts_t, place))
        self._n_waiting += len(activations.values_n)
        self._l0 = added(self._l0, np.bincount(l0_t))
        self.sums["n_tokens"] += len(place_t)

    def add_errors(
        self, squared_error: float, y_squared: float, y_sum_o: np.ndarray, relative_error_t: np.ndarray
    ) -> None:
        """Take a batch's sums of |y - y_hat|^2, |y|^2 and y, and |y - y_hat| / |y| of each token."""
        self.sums["squared_error"] += squared_error
        self.sums["y_squared"] += y_squared
        self.sums["y_sum"] += y_sum_o
        self.sums["error_histogram"] += np.bincount(error_bins(relative_error_t), minlength=FINE_BINS)

    def add_hard(self, **columns: np.ndarray) -> None:
        """Keep candidates for silent examples that come near to firing."""
        self._offered.add("hard", **columns)

    def add_random(self, **columns: np.ndarray) -> None:
        """Keep candidates for silent examples at random."""
        self._offered.add("random", **columns)

    def reduce(self, waiting: list[Activated]) -> None:
        """Reduce activations that had gathered; others may be added meanwhile, but not reduced."""
        if not waiting:
            return
        feature_e, value_e, firing_t, place_t = (torch.cat(parts) for parts in zip(*waiting, strict=True))
        waiting.clear()
        self._pairs.add(feature_e, firing_t)
        firings = Firings.from_tokens(feature_e, value_e, firing_t, place_t, self.n_features)
        del feature_e, value_e, firing_t, place_t
        runs = Runs.of(firings, self._context_p[firings.token_e])
        fine_e = fine_bins_of_bits(firings.value_e.view(torch.int32))
        self._stats.add_(event_stats(firings.indptr_f, firings.value_e, fine_e, FINE_BINS))
        self.sums["context_count"] += np.bincount(runs.feature_r, minlength=self.n_features)
        events, fine_e = firings.on_host(), fine_e.cpu().numpy()
        del firings
        self._masses.add(events.feature_e, self.stretch.token_ids_t[events.token_e], events.value_e)
        self._add_next(runs)
        self._keep_candidates(events, runs, fine_e)

    def write(self, writer: ColumnWriter, prefix: str) -> None:
        """Reduce what is left and write everything into a partial result, under names that begin with `prefix`."""
        self.reduce(self.take_gathered())
        for name, array in (self.sums | self._event_sums()).items():
            writer.array(prefix + name, array)
        writer.array(f"{prefix}l0_histogram", self._l0)
        self._masses.write(writer, f"{prefix}mass", MASS_ROW)
        self._next.write(writer, f"{prefix}next", COUNT_ROW)
        self._pairs.write(writer, prefix)
        self._offered.write(writer, prefix)

    def _event_sums(self) -> dict[str, np.ndarray]:
        """Return what the events added up to. A feature that never fired has the maximum zero."""
        stats = self._stats
        return {
            "firing_count": stats.count_f.cpu().numpy(),
            "powers": stats.powers_f4.cpu().numpy(),
            "maximum": stats.maximum_f.clamp(min=0).cpu().numpy(),
            "fine_histogram": stats.histogram_fb.cpu().numpy().astype(np.uint32),
        }

    def _add_next(self, runs: Runs) -> None:
        """Count the tokens that follow the peaks, in the contexts that do not end there."""
        after_r, context_p = runs.peak_token_r + 1, self.places.context_p
        rows = np.flatnonzero(after_r < len(context_p))
        rows = rows[context_p[after_r[rows]] == runs.context_r[rows]]
        ids = self.stretch.token_ids_t[after_r[rows]]
        self._next.add(runs.feature_r[rows], ids, np.ones(len(rows), dtype=np.float32))

    def _keep_candidates(self, events: Events, runs: Runs, fine_e: np.ndarray) -> None:
        places = self.places
        useful_r = self.selection.offer_peaks(runs.feature_r, runs.peak_token_r, runs.peak_value_r, places)
        drawn = self.selection.bands.offer(events.feature_e, events.token_e, events.value_e, fine_e, places)
        useful_r[np.searchsorted(runs.indptr_r, drawn, side="right") - 1] = True
        useful = np.flatnonzero(useful_r)
        starts, stops = runs.indptr_r[useful], runs.indptr_r[useful + 1]
        rows = gather_ranges(starts, stops)
        self._offered.add(
            "bands",
            feature=events.feature_e[drawn],
            value=events.value_e[drawn],
            **_where(places, events.token_e[drawn]),
        )
        self._offered.add_peaks(
            {
                "position": places.position_p[events.token_e[rows]].astype(np.uint16),
                "value": to_half(events.value_e[rows]),
            },
            feature=runs.feature_r[useful],
            value=runs.peak_value_r[useful],
            length=(stops - starts).astype(np.uint16),
            **_where(places, runs.peak_token_r[useful]),
        )


def added(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Add two histograms of which one may be longer."""
    longer, shorter = (a, b) if len(a) >= len(b) else (b, a)
    total = longer.copy()
    total[: len(shorter)] += shorter
    return total


def _where(places: Places, place: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "token": places.token_p[place],
        "context": places.context_p[place],
        "position": places.position_p[place].astype(np.uint16),
        "key": places.key_p[place],
    }
