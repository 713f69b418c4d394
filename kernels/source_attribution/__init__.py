"""Direct feature attribution through attention: how much each source token adds to a feature of heads' outputs.

At one destination, with attention pattern P and values v, a feature's pre-activation less its bias is the sum over
source tokens s and heads h of P[h, s] (v[s, h] . w[h]), linear in what the head moved. Only the destinations that are
asked for are computed, and P v for all pairs of tokens never is.

Shape suffixes: N asked (a destination and a feature each), S source tokens, H heads, G heads of values, D head width.
"""

from __future__ import annotations

from torch import Tensor

from kernels.source_attribution import cpu

__all__ = ["source_attribution"]


def source_attribution(pattern_nhs: Tensor, value_sgd: Tensor, w_nhd: Tensor) -> Tensor:
    """Return a_ns, float32, from each destination's attention, the values, and each feature's encoder row by heads.

    With grouped values, head h reads those of group h // (H / G).
    """
    if value_sgd.is_cuda:
        from kernels.source_attribution import triton

        return triton.source_attribution(pattern_nhs, value_sgd, w_nhd)
    return cpu.source_attribution(pattern_nhs, value_sgd, w_nhd)
