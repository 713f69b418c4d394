"""Layers that compute faster: the same values, gradients and hooks as those they stand for."""

import copy

import torch
from torch import nn
from transformers.activations import NewGELUActivation
from transformers.pytorch_utils import Conv1D

from inference.quick_modules import QuickConv1D, QuickLinear, QuickNewGELU, quicken


def test_a_quickened_model_answers_as_before():
    torch.manual_seed(0)
    slow = nn.Sequential(nn.Linear(192, 2048), NewGELUActivation(), Conv1D(512, 2048), nn.Linear(512, 8, bias=False))
    quick = copy.deepcopy(slow)
    quicken(quick)
    assert [type(layer) for layer in quick] == [QuickLinear, QuickNewGELU, QuickConv1D, QuickLinear]
    seen = []
    quick[2].register_forward_hook(lambda _module, args, output: seen.append((args[0].shape, output.shape)))
    x_btd = torch.randn(2, 40, 192, requires_grad=True)
    with torch.inference_mode():
        torch.testing.assert_close(quick(x_btd), slow(x_btd), rtol=0, atol=1e-5)
    assert seen == [((2, 40, 2048), (2, 40, 512))]
    gradients = [torch.autograd.grad(model(x_btd).sum(), x_btd)[0] for model in (quick, slow)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-5)


def test_subclasses_are_left_as_they_are():
    class Quantized(nn.Linear):
        pass

    model = nn.Sequential(Quantized(4, 4), nn.LayerNorm(4))
    quicken(model)
    assert [type(layer) for layer in model] == [Quantized, nn.LayerNorm]


def test_loaded_models_are_quick(gpt2):
    kinds = {type(module) for module in gpt2.module.modules()}
    assert QuickConv1D in kinds and QuickNewGELU in kinds
