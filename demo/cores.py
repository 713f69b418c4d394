"""One thread per core, each with work of its own.

Cores that share every operation wait for each other at each; on a machine with other work to do that was measured to
cost more than half of the training's speed. So a step is cut into parts that meet only at its end.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch


@dataclass(frozen=True)
class Cores:
    """A pool of threads and how many they are."""

    pool: ThreadPoolExecutor
    count: int


@contextmanager
def one_thread_each(device: torch.device) -> Iterator[Cores]:
    """Yield a thread for each core, or one where the work is another device's; operations are not shared meanwhile."""
    threads = torch.get_num_threads()
    count = threads if device.type == "cpu" else 1
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(count, initializer=partial(torch.set_num_threads, 1)) as pool:
            yield Cores(pool, count)
    finally:
        torch.set_num_threads(threads)
