"""Finding in bfloat16 what must be computed in float32, with a proof that nothing else can matter.

For x' and w' rounded to bfloat16, |x.w - x'.w'| <= |x - x'| |w'| + |x| |w - w'|, and summing n products in float32 adds
at most n 2^-24 |x| |w|. These bounds are themselves inner products, of (|x - x'|, |x|) with (|w'|, |w - w'|): as two
more columns of both factors they make the bfloat16 product itself an upper bound of the float32 score. Two more carry
what is added to the score, in two halves, because one bfloat16 has too few digits for it. What is not above a level in
the upper bounds is not above it in float32, and what is above it gets computed in float32.

Shape suffixes: T tokens, D input width, E = D + 8, F features, C columns that carry bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, partial

import torch
from torch import Tensor

from kernels.processors import has_fast_bfloat16

# The columns that carry bounds, filled up so that rows of usual widths stay aligned to 16 bytes.
COLUMNS = 8
# Factors that cover the rounding of the bounds themselves, to bfloat16 twice.
_ROUNDING = 1 + 2**-6
_FAR = 1e30
# Narrower inputs are multiplied in float32 sooner than bounds are looked through.
_NARROWEST = 64
# Measured where a screen pays: always where so many weights have to come from memory, each of them half as long, and
# from so many multiplications on where they lie in a processor's cache.
_FROM_MEMORY, _MUCH = 1 << 24, 1 << 27
# Tokens for which memory is the limit, whatever is computed.
_FEW_TOKENS = 8
# A sample of the features: every so many, but as many as this.
_EVERY, _AT_LEAST = 32, 64


@dataclass(frozen=True, kw_only=True, eq=False)
class Screen:
    """Encoder rows in bfloat16, with the columns that turn products into upper bounds of `x . w + offset`."""

    w_fe: Tensor
    offset_f: Tensor

    @classmethod
    def of(cls, w_fd: Tensor, offset_f: Tensor) -> Screen:
        """Round weights and what is added to their products: a bias, less a threshold where there is one."""
        rounded_fd = w_fd.bfloat16()
        missing_f = (w_fd - rounded_fd.float()).norm(dim=1) * _ROUNDING
        norm_f = rounded_fd.float().norm(dim=1) * _ROUNDING
        high_f = offset_f.bfloat16()
        low_f = offset_f - high_f.float() + offset_f.abs() * 2**-15
        none_f = torch.zeros_like(low_f)
        columns_fc = torch.stack([high_f.float(), low_f, norm_f, missing_f, *[none_f] * (COLUMNS - 4)], dim=1)
        # A row with NaN must not hide: it is always a candidate, and the float32 score shows what it is.
        bad_f = ~columns_fc.isfinite().all(1)
        columns_fc[bad_f] = 0
        columns_fc[bad_f, 0] = _FAR
        rounded_fd[bad_f] = 0
        return cls(w_fe=torch.cat([rounded_fd, columns_fc.bfloat16()], dim=1), offset_f=offset_f)

    @classmethod
    def when_needed(cls, w_fd: Tensor, offset_f: Tensor) -> Callable[[], Screen | None]:
        """Return what makes a screen when it is first called, and keeps it: None where it would not pay."""
        return cache(partial(cls.of, w_fd, offset_f)) if cls.pays(w_fd) else no_screen

    @classmethod
    def n_bytes(cls, w_fd: Tensor) -> int:
        """Return the memory that weights' screen takes, made or not yet made."""
        return 2 * len(w_fd) * (w_fd.shape[1] + COLUMNS) if cls.pays(w_fd) else 0

    @staticmethod
    def pays(w_fd: Tensor) -> bool:
        """Return whether weights are worth a screen's memory: those in float32, on a CPU fast in bfloat16.

        On GPUs this has not been measured.
        """
        fits = w_fd.dtype == torch.float32 and not w_fd.is_cuda and w_fd.shape[1] >= _NARROWEST
        return fits and has_fast_bfloat16()

    def pays_for(self, x_td: Tensor) -> bool:
        """Return whether it pays for so many tokens: a small product costs no more than finding candidates."""
        return self.is_from_memory or x_td.numel() * len(self.w_fe) >= _MUCH

    @property
    def is_from_memory(self) -> bool:
        """Whether the weights are too many for a processor's cache: scoring a candidate then waits for its row."""
        return self.offset_f.shape[0] * (self.w_fe.shape[1] - COLUMNS) >= _FROM_MEMORY

    def candidates_worth(self, n_tokens: int, in_cache: float, from_memory: float) -> float:
        """Return which share of all pre-activations may be candidates, given what was measured for many tokens."""
        return from_memory * (1 + _FEW_TOKENS / max(1, n_tokens)) if self.is_from_memory else in_cache

    def sampled_share(self, x_te: Tensor) -> float:
        """Return the share of bounds above zero, of a sample of the features, for a small part of the product."""
        bound_ts = x_te @ self._some_se.T
        return int((bound_ts > 0).sum()) / max(1, bound_ts.numel())

    @cached_property
    def _some_se(self) -> Tensor:
        return self.w_fe[:: max(1, min(_EVERY, len(self.w_fe) // _AT_LEAST))].contiguous()

    def gap(self, x_te: Tensor) -> Tensor:
        """Return how far each token's bounds may be from the scores, but for rounding when they are stored."""
        bounded_tc = x_te[:, -COLUMNS + 2 : -COLUMNS + 4].float()
        return 2 * (bounded_tc * self._widest_c).sum(1) + self._offset_slack

    @cached_property
    def _widest_c(self) -> Tensor:
        return self.w_fe[:, -COLUMNS + 2 : -COLUMNS + 4].float().amax(0)

    @cached_property
    def _offset_slack(self) -> float:
        return float(self.offset_f.abs().max()) * 2**-14

    def inputs(self, x_td: Tensor) -> Tensor:
        """Return x_te, whose product with the weights is an upper bound of every score."""
        rounded_td = x_td.bfloat16()
        length_t1 = x_td.norm(dim=1, keepdim=True)
        # Both the bound and the scores in float32 that it must cover round as they add up.
        slack_t1 = (x_td - rounded_td.float()).norm(dim=1, keepdim=True) + 2 * (x_td.shape[1] + 8) * 2**-24 * length_t1
        ones_t1 = torch.ones_like(length_t1)
        columns_tc = torch.cat([ones_t1, ones_t1, slack_t1 * _ROUNDING, length_t1 * _ROUNDING], dim=1)
        rest_tc = ones_t1.new_zeros(len(x_td), COLUMNS - 4)
        return torch.cat([rounded_td, columns_tc.bfloat16(), rest_tc.bfloat16()], dim=1)


def above(bound: Tensor) -> Tensor:
    """Return a number that a bound is below even if it was rounded to bfloat16 when it was stored."""
    return bound + bound.abs() * 2**-7


def no_screen() -> None:
    """Return no screen."""
