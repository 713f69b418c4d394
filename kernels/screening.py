"""Finding in few bits what must be computed in float32, with a proof that nothing else can matter.

A screen is a dictionary's weights in formats (`kernels.bounds`) whose products are upper bounds of the scores. What is
not above a level in the bounds is not above it in float32, and what is gets computed in float32: nothing is missed.
`USES` says which format serves where; each is made when it first does.

Shape suffixes: T tokens, D input width, F features.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import Tensor

from kernels.bounds import Format, InBfloat16, InBytes

# Measured: so many weights have to come from memory, and are better fetched in fewer bits whatever is computed.
_FROM_MEMORY = 1 << 24
# Tokens for which memory is the limit, whatever is computed.
_FEW_TOKENS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """Where a format wins: up to how many numbers in all inputs, for each of which candidates are fetched, and from how
    many multiplications on where weights lie in a cache.
    """

    format: type[InBfloat16] | type[InBytes]
    most_inputs: float = math.inf
    fewest_in_cache: float = math.inf

    def pays(self, w_fd: Tensor) -> bool:
        """Return whether it ever wins with these weights, and so is worth its memory."""
        return self.format.suits(w_fd) and (_from_memory(w_fd) or self.fewest_in_cache < math.inf)

    def serves(self, x_td: Tensor, w_fd: Tensor) -> bool:
        """Return whether it wins for so many tokens: a small product costs no more than finding candidates."""
        much = _from_memory(w_fd) or len(x_td) * w_fd.numel() >= self.fewest_in_cache
        return much and 0 < x_td.numel() <= self.most_inputs


# Measured. Where the first has too many candidates the next is tried, and then everything is computed in float32.
USES = (Use(format=InBytes, most_inputs=12_288), Use(format=InBfloat16, fewest_in_cache=1 << 27))


@dataclass(frozen=True, kw_only=True, eq=False)
class Screen:
    """Encoder rows, what is added to their products, and in which formats bounds are made of them."""

    w_fd: Tensor
    offset_f: Tensor
    uses: tuple[Use, ...]
    _made: dict[type, Format] = field(default_factory=dict)
    # Threads that encode at the same time make one together.
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, w_fd: Tensor, offset_f: Tensor) -> Screen | None:
        """Return a screen, None where none would pay; the offset is a bias, less a threshold where there is one."""
        uses = tuple(use for use in USES if use.pays(w_fd))
        return cls(w_fd=w_fd, offset_f=offset_f, uses=uses) if uses else None

    @staticmethod
    def n_bytes(w_fd: Tensor) -> int:
        """Return the memory that weights' screen takes, made or not yet made."""
        return sum(use.format.n_bytes(w_fd) for use in USES if use.pays(w_fd))

    def pays_for(self, x_td: Tensor) -> bool:
        """Return whether any format wins for so many tokens."""
        return any(use.serves(x_td, self.w_fd) for use in self.uses)

    def formats(self, x_td: Tensor) -> Iterator[Format]:
        """Yield the rows in the formats that win for so many tokens, each made when it is first asked for."""
        for use in self.uses:
            if use.serves(x_td, self.w_fd):
                with self._lock:
                    if use.format not in self._made:
                        self._made[use.format] = use.format.of(self.w_fd, self.offset_f)
                yield self._made[use.format]

    def candidates_worth(self, n_tokens: int, in_cache: float, from_memory: float) -> float:
        """Return which share of all pre-activations may be candidates, given what was measured for many tokens."""
        # Scoring a candidate waits for its row.
        return from_memory * (1 + _FEW_TOKENS / max(1, n_tokens)) if _from_memory(self.w_fd) else in_cache


def above(bound: Tensor) -> Tensor:
    """Return a number that a bound is below even if it was rounded to bfloat16 when it was stored."""
    return bound + bound.abs() * 2**-7


def _from_memory(w_fd: Tensor) -> bool:
    return w_fd.numel() >= _FROM_MEMORY
