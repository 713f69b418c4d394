"""Shuffled activations of the language model, at several hook points at once, for dictionaries to train on.

Shape suffixes: B windows, T tokens of a window, D width of the hook point, N tokens, P tokens of the pool.
"""

from collections.abc import Iterator, Sequence

import torch

from demo.language_model import Precision
from demo.tokenizer import BOS_ID, Windows
from inference.activations import capture
from inference.language_models import LanguageModel


def batches(
    model: LanguageModel,
    windows: Windows,
    hooks: Sequence[str],
    *,
    precision: Precision,
    batch: int = 2048,
    pool: int = 131_072,
    seed: int = 20,
) -> Iterator[dict[str, torch.Tensor]]:
    """Yield x_ND at each hook point, without end; BOS is left out.

    A batch is drawn from a pool of P tokens, and fresh ones take its place, so that it mixes tokens of many documents.
    """
    hooks = list(dict.fromkeys(hooks))
    fresh = _fresh(model, windows, hooks, precision, batch)
    parts = [next(fresh) for _ in range(pool // batch)]
    pool_PD = {hook: torch.cat([part[hook] for part in parts]) for hook in hooks}
    generator = torch.Generator().manual_seed(seed)
    while True:
        rows = torch.randperm(len(pool_PD[hooks[0]]), generator=generator)[:batch].to(model.device)
        yield {hook: x_PD[rows].float() for hook, x_PD in pool_PD.items()}
        for hook, x_ND in next(fresh).items():
            pool_PD[hook][rows] = x_ND


def _fresh(
    model: LanguageModel, windows: Windows, hooks: list[str], precision: Precision, batch: int
) -> Iterator[dict[str, torch.Tensor]]:
    """Yield x_ND of `batch` consecutive tokens at each hook point."""
    # BOS stands at the start of each window, and wherever a document begins inside one.
    count, step = batch // (windows.context - 8) + 1, 0
    while True:
        input_BT = torch.from_numpy(windows.batch(step, count)[0]).to(model.device)
        with precision():
            found = capture(model, input_BT, hooks)
        text_BT = input_BT != BOS_ID
        step += 1
        if text_BT.sum() >= batch:
            yield {hook: x_BTD[text_BT][:batch].bfloat16() for hook, x_BTD in found.items()}
