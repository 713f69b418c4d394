"""Shuffled activations of the language model, at several hook points at once, for dictionaries to train on.

Shape suffixes: B windows, T tokens of a window, D width of the hook point, N tokens, P tokens of the pool.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager

import torch

from demo.tokenizer import BOS_ID, Windows
from inference.activations import capture
from inference.language_models import LanguageModel


class ActivationStream:
    """Endless shuffled batches of activations at several hook points at once; BOS is left out.

    Half of a pool of P tokens is replaced at a time, so that a batch mixes tokens of many documents.
    """

    def __init__(
        self,
        model: LanguageModel,
        windows: Windows,
        hooks: Sequence[str],
        *,
        precision: AbstractContextManager,
        batch: int = 4096,
        pool: int = 131_072,
        forward: int = 32,
        seed: int = 20,
    ) -> None:
        self.model, self.windows, self.hooks = model, windows, list(dict.fromkeys(hooks))
        self.batch, self.size, self.forward = batch, pool, forward
        self.precision = precision
        self.device = model.device
        self.generator = torch.Generator().manual_seed(seed)
        self.step = 0
        self.pool: dict[str, torch.Tensor] = {}

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        while True:
            self._refill()
            order_P = torch.randperm(len(self.pool[self.hooks[0]]), generator=self.generator).to(self.device)
            served, kept = order_P[: len(order_P) // 2], order_P[len(order_P) // 2 :]
            for rows in served.split(self.batch)[: max(len(served) // self.batch, 1)]:
                yield {hook: x_PD[rows].float() for hook, x_PD in self.pool.items()}
            self.pool = {hook: x_PD[kept] for hook, x_PD in self.pool.items()}

    def _refill(self) -> None:
        pieces = {hook: [x_PD] for hook, x_PD in self.pool.items()} or {hook: [] for hook in self.hooks}
        count = sum(map(len, pieces[self.hooks[0]]))
        while count < self.size:
            input_BT, _ = self.windows.batch(self.step, self.forward)
            input_BT = torch.from_numpy(input_BT).to(self.device)
            with self.precision:
                found = capture(self.model, input_BT, self.hooks)
            for hook, x_BTD in found.items():
                pieces[hook].append(x_BTD[input_BT != BOS_ID].bfloat16())
            self.step += 1
            count += len(pieces[self.hooks[0]][-1])
        self.pool = {hook: torch.cat(parts) for hook, parts in pieces.items()}
