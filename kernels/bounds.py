"""Upper bounds of `x . w + offset` from products of fewer bits: what two formats store, and what they promise.

For x' and w' in few bits, |x . w - x' . w'| <= |x - x'| |w'| + |x| |w - w'|, and summing n products in float32 adds at
most n 2^-24 |x| |w|. So x' . w' + slack |w'| + |x| |w - w'| + offset, where the slack is |x - x'| and the rounding, is
no lower than what float32 makes of x . w + offset.

`InBfloat16` rounds both sides to bfloat16. What is added is itself an inner product, of (1, slack, |x|) with (offset,
|w'|, |w - w'|): as columns more of both factors it is in the bfloat16 product. The offset has two columns, because one
bfloat16 has too few digits for it. Weights take half of their memory.

`InBytes` has a byte for each weight, in steps of a 127th of its row's largest, and two for each input: steps of a 127th
of its token's largest, and what is missing in steps 254 times as fine, which leaves nearly nothing missing. Two bytes
are two rows of the product, which cost nothing where so few tokens wait for weights from memory. Sums of bytes are
exact. What is to be added is, in float32. Weights take a quarter of their memory.

Shape suffixes: T tokens, D input width, E = D + 8, F features, S features of a sample, C columns of what is added.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor

from kernels.processors import has_exact_bytes, has_fast_bfloat16

# The columns that carry bounds in bfloat16, filled up so that rows of usual widths stay aligned to 16 bytes.
COLUMNS = 8
_ROUNDING = 1 + 2**-6
_FAR = 1e30
# Narrower inputs are multiplied in float32 sooner than bounds are looked through; of wider ones 32 bits do not hold
# what bytes may add up to.
_NARROWEST, _WIDEST = 64, 1 << 16
# A sample of the features: every so many, but as many as this.
_EVERY, _AT_LEAST = 32, 64
# Weights that are rounded at a time, so that doing so takes little memory.
_ROUNDED_AT_ONCE = 1 << 22
# The largest of a signed byte, the zero of one that has none, and how much finer the second byte of an input is.
_LARGEST, _ZERO, _FINER = 127, 128, 254
# Where numbers are smaller, steps are not, and lengths are longer: float32 loses squares of such numbers.
_LEAST = 2.0**-60


class Format(Protocol):
    """Encoder rows in few bits, and what turns their product with inputs into upper bounds.

    `is_close` says whether these come so near the scores that they tell by themselves which are the largest.
    """

    is_close: ClassVar[bool]

    @classmethod
    def of(cls, w_fd: Tensor, offset_f: Tensor) -> Format:
        """Round weights and what is added to their products: a bias, less a threshold where there is one."""
        ...

    @staticmethod
    def suits(w_fd: Tensor) -> bool:
        """Return whether this machine multiplies such weights well in this format."""
        ...

    @staticmethod
    def n_bytes(w_fd: Tensor) -> int:
        """Return the memory that weights take in this format."""
        ...

    def inputs(self, x_td: Tensor) -> Any:
        """Return inputs in this format, None where bounds do not hold: there are none of infinities and NaN."""
        ...

    def bounds(self, inputs: Any) -> Tensor:
        """Return upper bounds of every score, in bfloat16 or float32."""
        ...

    def sample(self, inputs: Any) -> Tensor:
        """Return the bounds of a sample of the features."""
        ...

    def gap(self, inputs: Any) -> Tensor:
        """Return how far each token's bounds may be from the scores, but for rounding when they are stored."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class InBfloat16:
    """Rows in bfloat16, with the columns that make products upper bounds."""

    is_close: ClassVar[bool] = True
    w_fe: Tensor
    largest_offset: float

    @classmethod
    def of(cls, w_fd: Tensor, offset_f: Tensor) -> InBfloat16:
        """Round weights and offsets."""
        w_fe = w_fd.new_zeros(len(w_fd), w_fd.shape[1] + COLUMNS, dtype=torch.bfloat16)
        for rows in _steps(w_fd):
            w_fe[rows] = _in_bfloat16(w_fd[rows], offset_f[rows])
        return cls(w_fe=w_fe, largest_offset=float(_largest(offset_f)))

    @staticmethod
    def suits(w_fd: Tensor) -> bool:
        """Return whether they are in float32, on a CPU fast in bfloat16. On GPUs this has not been measured."""
        return _is_in_float32(w_fd) and w_fd.shape[1] >= _NARROWEST and has_fast_bfloat16()

    @staticmethod
    def n_bytes(w_fd: Tensor) -> int:
        """Return half of the weights' memory, and the columns."""
        return 2 * len(w_fd) * (w_fd.shape[1] + COLUMNS)

    def inputs(self, x_td: Tensor) -> Tensor | None:
        """Return x_te, whose product with the weights is an upper bound of every score."""
        rounded_td = x_td.bfloat16()
        length_t1 = x_td.norm(dim=1, keepdim=True)
        slack_t1 = (x_td - rounded_td.float()).norm(dim=1, keepdim=True) + _of_sums(x_td) * length_t1
        ones_t1 = torch.ones_like(length_t1)
        columns_tc = torch.cat([ones_t1, ones_t1, _covered(slack_t1), _covered(length_t1)], dim=1)
        rest_tc = ones_t1.new_zeros(len(x_td), COLUMNS - 4)
        x_te = torch.cat([rounded_td, columns_tc.bfloat16(), rest_tc.bfloat16()], dim=1)
        return x_te if bool(x_te.isfinite().all()) else None

    def bounds(self, inputs: Tensor) -> Tensor:
        """Return the product, in bfloat16."""
        return inputs @ self.w_fe.T

    def sample(self, inputs: Tensor) -> Tensor:
        """Return the product with some of the rows."""
        return inputs @ self._some_se.T

    @cached_property
    def _some_se(self) -> Tensor:
        return self.w_fe[_sampled(len(self.w_fe))].contiguous()

    def gap(self, inputs: Tensor) -> Tensor:
        """Return twice what is added to cover what rounding may have taken away."""
        bounded_tc = inputs[:, -COLUMNS + 2 : -COLUMNS + 4].float()
        return 2 * (bounded_tc * self._widest_c).sum(1) + self.largest_offset * 2**-14

    @cached_property
    def _widest_c(self) -> Tensor:
        return self.w_fe[:, -COLUMNS + 2 : -COLUMNS + 4].float().amax(0)


class ByteInputs(NamedTuple):
    """Inputs in bytes, both of a token T rows apart; their steps, and what is added to products, in float32."""

    bytes_td: Tensor
    step_t1: Tensor
    added_tc: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class InBytes:
    """Rows in bytes, as oneDNN packs them, their steps, and what is added to their products."""

    is_close: ClassVar[bool] = False
    packed: Tensor
    step_f: Tensor
    zero_f: Tensor
    added_cf: Tensor
    some: InBytes | None

    @classmethod
    def of(cls, w_fd: Tensor, offset_f: Tensor) -> InBytes:
        """Round weights and offsets."""
        bytes_fd = torch.zeros_like(w_fd, dtype=torch.int8, memory_format=torch.contiguous_format)
        step_f, added_cf = w_fd.new_zeros(len(w_fd)), w_fd.new_zeros(3, len(w_fd))
        for rows in _steps(w_fd):
            bytes_fd[rows], step_f[rows], added_cf[:, rows] = _in_bytes(w_fd[rows], offset_f[rows])
        some = _sampled(len(w_fd))
        sample = cls._packed(bytes_fd[some].contiguous(), step_f[some].contiguous(), added_cf[:, some].contiguous())
        return cls._packed(bytes_fd, step_f, added_cf, sample)

    @classmethod
    def _packed(cls, bytes_fd: Tensor, step_f: Tensor, added_cf: Tensor, some: InBytes | None = None) -> InBytes:
        packed = torch.ops.onednn.qlinear_prepack(bytes_fd, None)
        zero_f = torch.zeros(len(step_f), dtype=torch.int64)
        return cls(packed=packed, step_f=step_f, zero_f=zero_f, added_cf=added_cf, some=some)

    @staticmethod
    def suits(w_fd: Tensor) -> bool:
        """Return whether they are in float32, on a CPU that multiplies bytes and loses nothing."""
        return _is_in_float32(w_fd) and _NARROWEST <= w_fd.shape[1] <= _WIDEST and has_exact_bytes()

    @staticmethod
    def n_bytes(w_fd: Tensor) -> int:
        """Return a quarter of the weights' memory, and what is added, of all and of the sample."""
        return (w_fd.numel() + 24 * len(w_fd)) * (_EVERY + 1) // _EVERY

    def inputs(self, x_td: Tensor) -> ByteInputs | None:
        """Return two bytes for each input."""
        step_t1 = (x_td.abs().amax(1, keepdim=True) / _LARGEST).clamp(min=_LEAST)
        in_steps_td = x_td / step_t1
        coarse_td = in_steps_td.round()
        fine_td = (in_steps_td - coarse_td).mul_(_FINER)
        rounded_td = fine_td.round()
        length_t1 = in_steps_td.norm(dim=1, keepdim=True)
        slack_t1 = (fine_td - rounded_td).norm(dim=1, keepdim=True) / _FINER + _of_sums(x_td) * length_t1
        columns = torch.ones_like(length_t1), _covered(slack_t1 * step_t1), _covered(length_t1 * step_t1)
        added_tc = torch.cat(columns, dim=1)
        if not bool(added_tc.isfinite().all()):
            return None
        return ByteInputs(torch.cat([coarse_td, rounded_td]).add_(_ZERO).to(torch.uint8), step_t1, added_tc)

    def bounds(self, inputs: ByteInputs) -> Tensor:
        """Return the product of both bytes, in the units of the inputs, and what is added, in float32."""
        # Of inputs with a zero, as oneDNN has no fast product of two signed bytes.
        product_tf = torch.ops.onednn.qlinear_pointwise(
            inputs.bytes_td,
            1.0,
            _ZERO,
            self.packed,
            self.step_f,
            self.zero_f,
            None,
            1.0,
            0,
            torch.float32,
            "none",
            [],
            "",
        )
        coarse_tf, fine_tf = product_tf.tensor_split(2)
        return coarse_tf.add_(fine_tf, alpha=1 / _FINER).mul_(inputs.step_t1).addmm_(inputs.added_tc, self.added_cf)

    def sample(self, inputs: ByteInputs) -> Tensor:
        """Return the bounds of some of the rows."""
        return (self.some or self).bounds(inputs)

    def gap(self, inputs: ByteInputs) -> Tensor:
        """Return twice what is added to cover what rounding may have taken away."""
        largest_c = self._largest_c
        return 2 * (inputs.added_tc[:, 1:] * largest_c[1:]).sum(1) + largest_c[0] * 2**-19

    @cached_property
    def _largest_c(self) -> Tensor:
        return _largest(self.added_cf)


def _in_bfloat16(w_fd: Tensor, offset_f: Tensor) -> Tensor:
    """Return w_fe."""
    rounded_fd = w_fd.bfloat16()
    missing_f = _covered((w_fd - rounded_fd.float()).norm(dim=1))
    norm_f = _covered(rounded_fd.float().norm(dim=1))
    high_f = offset_f.bfloat16()
    low_f = offset_f - high_f.float() + offset_f.abs() * 2**-15
    none_f = torch.zeros_like(low_f)
    columns_fc = torch.stack([high_f.float(), low_f, norm_f, missing_f, *[none_f] * (COLUMNS - 4)], dim=1)
    # A row with NaN must not hide: it is always a candidate, and the float32 score shows what it is.
    bad_f = ~columns_fc.isfinite().all(1)
    columns_fc[bad_f] = 0
    columns_fc[bad_f, 0] = _FAR
    rounded_fd[bad_f] = 0
    return torch.cat([rounded_fd, columns_fc.bfloat16()], dim=1)


def _in_bytes(w_fd: Tensor, offset_f: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the bytes of weights, their steps and what is added."""
    step_f = (w_fd.abs().amax(1) / _LARGEST).clamp(min=_LEAST)
    in_steps_fd = w_fd / step_f[:, None]
    rounded_fd = in_steps_fd.round()
    missing_f = _covered((in_steps_fd - rounded_fd).norm(dim=1) * step_f)
    norm_f = _covered(rounded_fd.norm(dim=1) * step_f)
    added_cf = torch.stack([offset_f + offset_f.abs() * 2**-20, norm_f, missing_f])
    # A row with NaN must not hide: it is always a candidate, and the float32 score shows what it is.
    bad_f = ~added_cf.isfinite().all(0)
    added_cf[:, bad_f] = 0
    added_cf[0, bad_f] = _FAR
    rounded_fd[bad_f] = 0
    step_f[bad_f] = 1
    return rounded_fd.to(torch.int8), step_f, added_cf


def _covered(lengths: Tensor) -> Tensor:
    """Return lengths that are no shorter once they are rounded, to bfloat16 twice."""
    return lengths * _ROUNDING + _LEAST


def _of_sums(x_td: Tensor) -> float:
    """Return what rounds as products add up, both in the bound and in the score that it must cover."""
    return 2 * (x_td.shape[1] + 8) * 2**-24


def _largest(numbers: Tensor) -> Tensor:
    """Return the largest along the last axis, but for what stands for rows that have none."""
    numbers = numbers.abs()
    return torch.where(numbers < _FAR, numbers, 0).amax(-1)


def _is_in_float32(w_fd: Tensor) -> bool:
    return w_fd.dtype == torch.float32 and not w_fd.is_cuda


def _steps(w_fd: Tensor) -> Iterator[slice]:
    size = max(1, _ROUNDED_AT_ONCE // max(1, w_fd.shape[1]))
    return (slice(start, start + size) for start in range(0, len(w_fd), size))


def _sampled(n_features: int) -> slice:
    return slice(None, None, max(1, min(_EVERY, n_features // _AT_LEAST)))
