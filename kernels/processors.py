"""What a processor is good at, where that decides how something is computed."""

from __future__ import annotations

from functools import cache

import torch


@cache
def has_fast_bfloat16() -> bool:
    """Return whether this CPU multiplies bfloat16 in hardware: without, such products are a hundred times slower."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


@cache
def has_exact_bytes() -> bool:
    """Return whether this CPU adds up products of bytes in 32 bits: older ones do in 16, and stop at the largest."""
    capabilities = torch.cpu.get_capabilities()
    named = bool(capabilities.get("avx512_vnni") or capabilities.get("amx_int8"))
    return named and torch.backends.mkldnn.is_available() and hasattr(torch.ops.onednn, "qlinear_pointwise")
