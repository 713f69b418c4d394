"""On GPUs each feature has a buffer: candidates above its worst take the next free place.

Which place is a race; what is kept is not, for ranks are unique. Candidates that find their buffer full go to a list
and are offered again when the buffers have been emptied into what is kept: nothing is dropped.

Suffixes: e candidates, b places of a buffer.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.stream_topn.cpu import TopContexts
from kernels.stream_topn.reference import EMPTY

BLOCK_E = 256


@triton.jit
def append_kernel(
    feature_ptr,
    key_ptr,
    position_ptr,
    keys_ptr,
    buffer_keys_ptr,
    buffer_positions_ptr,
    filled_ptr,
    spilled_ptr,
    n_spilled_ptr,
    n_candidates,
    size,
    n_places,
    BLOCK_E: tl.constexpr,
):
    e = tl.program_id(0).to(tl.int64) * BLOCK_E + tl.arange(0, BLOCK_E)
    feature = tl.load(feature_ptr + e, mask=e < n_candidates, other=0)
    key = tl.load(key_ptr + e, mask=e < n_candidates, other=0)
    position = tl.load(position_ptr + e, mask=e < n_candidates, other=0)
    worst = tl.load(keys_ptr + feature * size + size - 1)
    hopeful = (e < n_candidates) & (key > worst)
    place = tl.atomic_add(filled_ptr + feature, 1, mask=hopeful)
    fits = hopeful & (place < n_places)
    tl.store(buffer_keys_ptr + feature * n_places + place, key, mask=fits)
    tl.store(buffer_positions_ptr + feature * n_places + place, position, mask=fits)
    spills = hopeful & (place >= n_places)
    slot = tl.atomic_add(n_spilled_ptr + tl.zeros((BLOCK_E,), dtype=tl.int64), 1, mask=spills)
    tl.store(spilled_ptr + slot, e, mask=spills)


class BufferedTopContexts(TopContexts):
    """The state with a buffer of `size` places for each feature."""

    def __init__(self, n_features: int, size: int, device: torch.device | str) -> None:
        super().__init__(n_features, size, device)
        self._buffer_keys_fb = torch.full_like(self.keys_fn, EMPTY)
        self._buffer_positions_fb = torch.full_like(self.positions_fn, -1)
        self._filled_f = torch.zeros(n_features, dtype=torch.int32, device=device)

    def compact(self) -> None:
        """Empty the buffers into what is kept, and publish the new worst."""
        # All features at once: a buffer is no larger than what is kept.
        every_f = torch.arange(len(self.keys_fn), device=self.keys_fn.device)
        self._keep(every_f, self._buffer_keys_fb, self._buffer_positions_fb)
        self._buffer_keys_fb.fill_(EMPTY)
        self._filled_f.zero_()

    def _offer(self, feature_e: Tensor, key_e: Tensor, position_e: Tensor) -> None:
        while len(feature_e):
            spilled_e = torch.empty(len(feature_e), dtype=torch.int64, device=key_e.device)
            n_spilled = torch.zeros(1, dtype=torch.int64, device=key_e.device)
            append_kernel[(triton.cdiv(len(feature_e), BLOCK_E),)](
                feature_e,
                key_e,
                position_e,
                self.keys_fn,
                self._buffer_keys_fb,
                self._buffer_positions_fb,
                self._filled_f,
                spilled_e,
                n_spilled,
                len(feature_e),
                *self.keys_fn.shape[1:],
                self._buffer_keys_fb.shape[1],
                BLOCK_E=BLOCK_E,
                num_warps=4,
            )
            again_e = spilled_e[: int(n_spilled)]
            if len(again_e):
                self.compact()
            feature_e, key_e, position_e = feature_e[again_e], key_e[again_e], position_e[again_e]
