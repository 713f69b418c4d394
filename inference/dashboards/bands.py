"""Sampling the tokens where features fire, so that every band of activation gets examples.

The bands are shares of a maximum that is known only at the end, so a sample is kept for each fine bin of activations
(`bins.py`) and the bands are filled from the bins that they cover. Every firing draws a lot: a hash of the token's
surroundings and the feature. Of one context's firings in a bin the lowest lot takes part, and a bin keeps the lowest
lots of different surroundings. Contexts are never cut, so neither the order nor the number of shards matters.
"""

from __future__ import annotations

import numpy as np

from inference.dashboards.bins import FINE_BINS, fine_bins
from inference.dashboards.corpus import mixed
from inference.dashboards.places import Places, upper_half
from inference.dashboards.results import BANDS
from inference.dashboards.selection import Best, Candidates, best_rows, by_lot

N_BAND = 6
# More than a band shows, since the top or other bands may have taken some of the contexts.
N_KEPT = 8
# Firings looked at together: few enough to stay in a core's cache.
_CHUNK = 1 << 16
# The first firings of all meet no limits yet. Those with the lowest sixteenth of lots set some before the others come.
_LOW_LOT, _ANY_LOT = 1 << 28, 1 << 32
_ODD = np.uint32(0x85EBCA6B)


class BandSample:
    """A sample of the firings of some features at every height, while a pass goes on.

    Features count from 0 here, at the first of those of the dictionary that are sampled.
    """

    def __init__(self, features: range) -> None:
        self._n_features = len(features)
        self._is_empty = True
        self._best = Best(len(features) * FINE_BINS, N_KEPT)
        self._salt_f = (salts(features) >> np.uint64(32)).astype(np.uint32)

    def offer(
        self, feature: np.ndarray, place: np.ndarray, value: np.ndarray, fine: np.ndarray, places: Places
    ) -> np.ndarray:
        """Take firings, all of a context's or those that an earlier call returned; return which rows may be examples.

        Rows are in ascending order; `fine` is the fine bin of each value.
        """
        if self._is_empty:
            self._add(*self._admitted(feature, place, fine, places, _LOW_LOT), place, value, places)
            self._best.compact()
            self._is_empty = False
        rows, group, rank = self._admitted(feature, place, fine, places, _ANY_LOT)
        taken = self._add(rows, group, rank, place, value, places)
        return np.sort(rows[taken][self._best.admits(group[taken], rank[taken])])

    def admits(self, feature: np.ndarray, token: np.ndarray, key: np.ndarray, value: np.ndarray) -> np.ndarray:
        """Return which firings that were taken may still become examples."""
        group = feature.astype(np.int64) * FINE_BINS + fine_bins(value)
        return self._best.admits(group, by_lot(self._lots(feature, upper_half(key)), token))

    def fill(self, top: Candidates, maximum_f: np.ndarray) -> tuple[Candidates, np.ndarray]:
        """Return the examples of all bands, sorted by feature, band and height, and the band of each.

        A context that `top` shows is not shown again, nor one that is alike around its token. The others go to one
        band each: a feature's bands choose in the order of how few contexts they could show, the stronger band first
        among equals, and each takes the lowest lots.
        """
        kept, band = self._unseen(top, maximum_f)
        n_codes = len(BANDS) + 1
        count_fb = np.bincount(kept.group * n_codes + band, minlength=self._n_features * n_codes)
        order_fb = np.argsort(count_fb.reshape(-1, n_codes)[:, 1:], axis=1, kind="stable") + 1
        place_fb = np.argsort(order_fb, axis=1)
        turn = place_fb[kept.group, band - 1]
        where = kept.group << 32 | kept.context
        taken, chosen = np.zeros(0, dtype=np.int64), [np.zeros(0, dtype=np.int64)]
        for number in range(len(BANDS)):
            free = np.flatnonzero(turn == number)
            free = free[~np.isin(where[free], taken)]
            rows, _ = best_rows(kept.group[free], kept.rank[free], kept.identity[free], N_BAND)
            chosen.append(free[rows])
            taken = np.concatenate([taken, where[free[rows]]])
        rows = np.concatenate(chosen)
        # Drawn by lot, shown by height.
        rows = rows[np.lexsort((kept.context[rows], -kept.value[rows], band[rows], kept.group[rows]))]
        return kept.take(rows), band[rows]

    def _unseen(self, top: Candidates, maximum_f: np.ndarray) -> tuple[Candidates, np.ndarray]:
        """Return what the top does not show, by feature, with its band: one token of a context in a band."""
        kept = self._best.kept()
        kept = kept.of_groups(kept.group // FINE_BINS)
        share = kept.value.astype(np.float64) / maximum_f[kept.group]
        band = np.zeros(len(kept), dtype=np.int64)
        for code, (low, high) in BANDS.items():
            band[(share > low) & (share <= high)] = code
        seen = np.isin(kept.group << 32 | kept.context, top.group << 32 | top.context)
        salt_f = self._salt_f.astype(np.int64) << 32 | np.arange(self._n_features)
        seen |= np.isin(kept.identity ^ salt_f[kept.group], top.identity ^ salt_f[top.group])
        unseen = np.flatnonzero(~seen & (band > 0))
        kept, band = kept.take(unseen), band[unseen]
        rows, _ = best_rows(kept.group * (len(BANDS) + 1) + band, kept.rank, kept.context, len(kept))
        return kept.take(rows), band[rows]

    def lots(self, feature: np.ndarray, place: np.ndarray, places: Places) -> np.ndarray:
        """Return what firings draw: uint32, equal for equal surroundings of one feature."""
        return self._lots(feature, places.lot_p[place])

    def _lots(self, feature: np.ndarray, lot: np.ndarray) -> np.ndarray:
        lot = lot ^ self._salt_f[feature]
        lot *= _ODD
        return lot

    def _admitted(
        self, feature: np.ndarray, place: np.ndarray, fine: np.ndarray, places: Places, limit: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return `(rows, group, rank)` of firings whose lots are below the limit and low enough as things stand."""
        found = []
        for start in range(0, max(len(feature), 1), _CHUNK):
            part = slice(start, start + _CHUNK)
            group = feature[part].astype(np.int64) * FINE_BINS + fine[part]
            lot = self.lots(feature[part], place[part], places)
            rank = by_lot(lot, places.token_p[place[part]])
            rows = np.flatnonzero(self._best.admits(group, rank) & (lot < limit))
            rows = rows[places.eligible_p[place[part][rows]]]
            found.append((rows + start, group[rows], rank[rows]))
        rows, group, rank = (np.concatenate(columns) for columns in zip(*found, strict=True))
        return rows, group, rank

    def _add(
        self,
        rows: np.ndarray,
        group: np.ndarray,
        rank: np.ndarray,
        place: np.ndarray,
        value: np.ndarray,
        places: Places,
    ) -> np.ndarray:
        """Let the lowest lot of each context in each bin take part; return their numbers among `rows`."""
        context = places.context_p[place[rows]]
        order = np.lexsort((rank, context, group))
        g, c = group[order], context[order]
        first = np.ones(len(order), dtype=bool)
        first[1:] = (g[1:] != g[:-1]) | (c[1:] != c[:-1])
        taken = order[first]
        own = place[rows[taken]]
        self._best.add(
            Candidates(
                group=group[taken],
                rank=rank[taken],
                identity=places.key_p[own].view(np.int64),
                context=context[taken],
                position=places.position_p[own],
                value=value[rows[taken]],
            )
        )
        return taken


def salts(features: range) -> np.ndarray:
    """Return what tells the lots of one feature from those of another."""
    return mixed(np.arange(features.start, features.stop, dtype=np.uint64) + np.uint64(1 << 40))
