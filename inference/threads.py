"""How many threads a piece of work deserves on a CPU.

Below a few milliseconds of work, waking and waiting for a second thread costs more than it brings.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from kernels.affine import onednn_is_faster

# What one ordinary core does: operations in float32 by either library, and weights streamed from memory.
FLOPS_PER_SECOND, BY_ONEDNN = 5e10, 1.5e11
BYTES_PER_SECOND = 1e10
WORTH_SHARING_SECONDS = 4e-3


@contextmanager
def suited_to(*, n_weight_bytes: int, n_tokens: int, device: torch.device) -> Iterator[None]:
    """Run on one thread while the context lasts, if applying the weights to so many tokens is small work.

    Threads are a process-wide setting; it is put back at the end.
    """
    n_threads = torch.get_num_threads()
    n_flops = 2 * n_tokens * n_weight_bytes / 4
    rate = BY_ONEDNN if onednn_is_faster() else FLOPS_PER_SECOND
    seconds = max(n_flops / rate, n_weight_bytes / BYTES_PER_SECOND)
    if device.type != "cpu" or n_threads == 1 or seconds > WORTH_SHARING_SECONDS:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
