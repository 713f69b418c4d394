"""The state, and how CPUs feed it: candidates that are not refused wait in a list, and are merged when it is long."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.stream_topn.reference import EMPTY, Kept, keys, unpacked

_MOST_WAITING = 1 << 18


class TopContexts:
    """The best contexts so far: `keys_fn`, best first, with their positions, and each feature's published worst."""

    def __init__(self, n_features: int, size: int, device: torch.device | str = "cpu") -> None:
        self.keys_fn = torch.full((n_features, size), EMPTY, device=device)
        self.positions_fn = torch.full((n_features, size), -1, device=device)
        self.not_finite = torch.zeros((), dtype=torch.int64, device=device)
        self._waiting: list[tuple[Tensor, Tensor, Tensor]] = []
        self._n_waiting = 0

    @property
    def worst_f(self) -> Tensor:
        """The key that a candidate must exceed."""
        return self.keys_fn[:, -1]

    def add(self, feature_e: Tensor, context_e: Tensor, position_e: Tensor, value_e: Tensor) -> None:
        """Offer candidates; infinities and NaN are counted and refused."""
        finite_e = value_e.isfinite()
        self.not_finite += (~finite_e).sum()
        key_e = torch.where(finite_e, keys(value_e, context_e), EMPTY)
        self._offer(feature_e.long(), key_e, position_e.long())

    def merge(self, other: TopContexts) -> None:
        """Take in what another state has kept of other contexts."""
        other.compact()
        n_features, size = other.keys_fn.shape
        feature_e = torch.arange(n_features, device=self.keys_fn.device).repeat_interleave(size)
        self.not_finite += other.not_finite.to(self.not_finite.device)
        self._offer(
            feature_e, other.keys_fn.view(-1).to(feature_e.device), other.positions_fn.view(-1).to(feature_e.device)
        )

    def result(self) -> Kept:
        """Return the best of each feature."""
        self.compact()
        return unpacked(self.keys_fn, self.positions_fn)

    def compact(self) -> None:
        """Let what waits meet what is kept, and publish the new worst."""
        if not self._waiting:
            return
        feature_e, key_e, position_e = (torch.cat(parts) for parts in zip(*self._waiting, strict=True))
        self._waiting, self._n_waiting = [], 0
        order_e = key_e.argsort(descending=True)
        order_e = order_e[feature_e[order_e].argsort(stable=True)]
        feature_e, key_e, position_e = feature_e[order_e], key_e[order_e], position_e[order_e]
        touched_u, counts_u = feature_e.unique_consecutive(return_counts=True)
        first_u = counts_u.cumsum(0) - counts_u
        place_e = torch.arange(len(feature_e), device=feature_e.device) - first_u.repeat_interleave(counts_u)
        best_e = place_e < self.keys_fn.shape[1]
        row_e = torch.arange(len(touched_u), device=feature_e.device).repeat_interleave(counts_u)
        shape = (len(touched_u), int(place_e[best_e].max()) + 1)
        fresh_keys_un = key_e.new_full(shape, EMPTY)
        fresh_positions_un = position_e.new_full(shape, -1)
        fresh_keys_un[row_e[best_e], place_e[best_e]] = key_e[best_e]
        fresh_positions_un[row_e[best_e], place_e[best_e]] = position_e[best_e]
        self._keep(touched_u, fresh_keys_un, fresh_positions_un)

    def _offer(self, feature_e: Tensor, key_e: Tensor, position_e: Tensor) -> None:
        hopeful_e = key_e > self.worst_f[feature_e]
        self._waiting.append((feature_e[hopeful_e], key_e[hopeful_e], position_e[hopeful_e]))
        self._n_waiting += len(self._waiting[-1][0])
        if not self._n_waiting:
            self._waiting = []
        elif self._n_waiting > _MOST_WAITING:
            self.compact()

    def _keep(self, features_u: Tensor, fresh_keys_un: Tensor, fresh_positions_un: Tensor) -> None:
        """Keep the best of what features have and of what is new to them."""
        every_keys_un = torch.cat([self.keys_fn[features_u], fresh_keys_un], dim=1)
        every_positions_un = torch.cat([self.positions_fn[features_u], fresh_positions_un], dim=1)
        keys_un, places_un = every_keys_un.topk(self.keys_fn.shape[1], dim=1)
        self.keys_fn[features_u] = keys_un
        self.positions_fn[features_u] = every_positions_un.gather(1, places_un)
