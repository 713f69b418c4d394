"""The same layers of a model, computed faster on a CPU: products by oneDNN, GELU in one step.

Values differ from those of transformers' own layers in the last digits of float32. Hooks, names, weights and gradients
are as before: a module gets a subclass of its class, which only computes differently.

Shape suffixes: T tokens, D input width, F output width.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional
from transformers.activations import NewGELUActivation
from transformers.pytorch_utils import Conv1D

from kernels.affine import affine


class QuickLinear(nn.Linear):
    def forward(self, x_td: Tensor) -> Tensor:
        return affine(x_td, self.weight, self.bias)


class QuickConv1D(Conv1D):
    """GPT-2's linear layer, which stores its weights the other way round."""

    def forward(self, x_td: Tensor) -> Tensor:
        return affine(x_td, self.weight.T, self.bias)


class QuickNewGELU(NewGELUActivation):
    """The approximation of GELU by a hyperbolic tangent, which transformers computes in eight passes."""

    def forward(self, h_tf: Tensor) -> Tensor:
        return functional.gelu(h_tf, approximate="tanh")


_QUICK: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: QuickLinear,
    Conv1D: QuickConv1D,
    NewGELUActivation: QuickNewGELU,
}


def quicken(model: nn.Module) -> None:
    """Give every layer that has a quicker form that form, in place."""
    for module in model.modules():
        if quick := _QUICK.get(type(module)):
            module.__class__ = quick
