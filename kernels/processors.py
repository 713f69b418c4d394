"""What a processor is good at, where that decides how something is computed."""

from __future__ import annotations

from functools import cache

import torch


@cache
def has_fast_bfloat16() -> bool:
    """Return whether this CPU multiplies bfloat16 in hardware: without, such products are a hundred times slower."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
