"""On how many tokens two features fire together: a table of all pairs, for dictionaries whose table fits.

Shape suffixes: T tokens, F features, N activations.
"""

from __future__ import annotations

from torch import Tensor

from kernels.cooccurrence import cpu
from kernels.cooccurrence.cpu import pair_codes

__all__ = ["cooccurrence", "pair_codes"]


def cooccurrence(table_ff: Tensor, indptr: Tensor, indices_n: Tensor) -> None:
    """Add the tokens' pairs to an int32 table, in place: `table_ff[i, j]` for i < j, the rest stays as it is.

    Within a row features come in any order, each once.
    """
    if table_ff.is_cuda:
        from kernels.cooccurrence import triton

        return triton.cooccurrence(table_ff, indptr, indices_n)
    return cpu.cooccurrence(table_ff, indptr, indices_n)
