"""Dictionaries of attention outputs that TransformerLens had shifted, on the model as it was published."""

import pytest
import torch

from inference.activations import capture
from inference.dictionaries import load_dictionary
from inference.dictionaries.value_shift import value_shift
from tests.inference.lens import in_transformer_lens
from tests.tiny import TEXT, tiny_dictionary

Z = "blocks.1.attn.hook_z"


@pytest.fixture
def biased(models):
    """GPT-2 with biases of its values and of the norm before them, which a new model's are zero."""
    gpt2 = models["gpt2"]
    block = gpt2.module.transformer.h[1]
    draw = torch.Generator().manual_seed(2)
    tensors = (block.attn.c_attn.bias, block.ln_1.bias, block.ln_1.weight)
    before = [tensor.detach().clone() for tensor in tensors]
    with torch.no_grad():
        for tensor in tensors:
            tensor.copy_(torch.randn(tensor.shape, generator=draw))
    yield gpt2
    with torch.no_grad():
        for tensor, values in zip(tensors, before, strict=True):
            tensor.copy_(values)


def test_the_shift_is_that_of_the_values_biases(biased):
    block, d = biased.module.transformer.h[1], biased.d_model
    expected_d = block.attn.c_attn.bias[2 * d :] + block.ln_1.bias @ block.attn.c_attn.weight[:, 2 * d :]
    torch.testing.assert_close(value_shift(biased, Z), expected_d.detach(), atol=1e-5, rtol=1e-5)
    head_d = value_shift(biased, f"{Z}.2")
    torch.testing.assert_close(head_d, value_shift(biased, Z).view(biased.n_heads, -1)[2])


def test_a_dictionary_beside_its_model_reads_what_it_was_trained_on(biased, tmp_path):
    told = {"model_name": "gpt2", "model_from_pretrained_kwargs": {"center_writing_weights": True}}
    folder = tiny_dictionary(tmp_path, "jumprelu", Z, metadata={"hook_name": Z} | told, d_in=biased.width(Z))
    alone, beside = load_dictionary(folder, device="cpu"), load_dictionary(folder, device="cpu", model=biased)
    assert any("values' biases" in sentence for sentence in beside.config.evidence)
    z_td = capture(biased, biased.ids_bt(biased.tokenize(TEXT)), [Z])[Z][0]
    shift_d = value_shift(biased, Z)
    assert shift_d.norm() > 0.1
    torch.testing.assert_close(beside.encode(z_td).dense(), alone.encode(z_td - shift_d).dense(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        beside.reconstruct(z_td), alone.reconstruct(z_td - shift_d) + shift_d, atol=1e-4, rtol=1e-4
    )


@pytest.mark.interop
def test_transformer_lens_takes_out_the_shift(biased, tmp_path):
    lens = pytest.importorskip("transformer_lens", exc_type=ImportError)
    biased.module.save_pretrained(tmp_path / "model")
    hooked = in_transformer_lens(biased, tmp_path / "model")
    folded = lens.HookedTransformer(hooked.cfg)
    others = dict.fromkeys(("fold_ln", "center_unembed", "center_writing_weights"), False)
    folded.load_and_process_state_dict(hooked.state_dict(), fold_value_biases=True, **(others | {"fold_ln": True}))
    ids_bt = biased.ids_bt(biased.tokenize(TEXT))
    with torch.inference_mode():
        _, cache = folded.run_with_cache(ids_bt)
    z_td = capture(biased, ids_bt, [Z])[Z][0]
    torch.testing.assert_close(cache[Z][0].flatten(1), z_td - value_shift(biased, Z), atol=1e-4, rtol=1e-4)
