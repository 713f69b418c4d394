"""What TransformerLens takes out of attention when it processes a model: a constant at `hook_z`.

By default it moves the biases of the values, and what the norm before attention adds to them, behind the heads'
outputs, where they are constant, for each token's weights on what it sees add up to one. There `hook_z` is that of the
published model less c = b_V + b_LN W_V, which is what the heads give at a first token, which sees itself alone, when
the norm gives its bias and nothing else.

Shape suffixes: B batch, T tokens, D input width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from inference.activations import capture, spliced
from inference.hook_points import parse
from inference.language_models import LanguageModel


@torch.inference_mode()
def value_shift(model: LanguageModel, hook_name: str) -> Tensor:
    """Return c_d at a `hook_z` of a model, all heads' or one's, in float32 on the CPU."""
    norm = f"blocks.{parse(hook_name).layer}.ln1.hook_normalized"
    ids_bt = torch.zeros(1, 1, dtype=torch.int64, device=model.device)
    with spliced(model, {norm: torch.zeros_like}):
        z_btd = capture(model, ids_bt, [hook_name])[hook_name]
    return z_btd[0, 0].float().cpu()
