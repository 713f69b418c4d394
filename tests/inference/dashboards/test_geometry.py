"""What weights say: directions reach the logits by the path of their hook point."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from inference.dashboards.geometry import logit_effects, logit_path, neighbours
from inference.dictionaries import load_dictionary
from inference.language_models import load_language_model
from tests.tiny import tiny_dictionary, tiny_model


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def model(request, tmp_path_factory):
    return load_language_model(tiny_model(tmp_path_factory.mktemp("model"), request.param))


def out_matrix(model, name):
    """Return the matrix that multiplies rows on their way to the residual stream."""
    block = model.module.get_submodule(model.family.base)
    block = (block.h if model.family.name == "gpt2" else block.layers)[1]
    gpt2 = model.family.name == "gpt2"
    module = {
        "z": block.attn.c_proj if gpt2 else block.self_attn.o_proj,
        "post": block.mlp.c_proj if gpt2 else block.mlp.down_proj,
    }[name]
    return module.weight if gpt2 else module.weight.T


@pytest.mark.parametrize(
    ("hook_name", "path"),
    [
        ("blocks.1.hook_resid_post", "directions of the residual stream"),
        ("blocks.1.hook_attn_out", "directions of the residual stream"),
        ("blocks.1.ln2.hook_normalized", "taken as residual directions"),
        ("blocks.1.attn.hook_z", "through"),
        ("blocks.1.attn.hook_z.2", "through"),
        ("blocks.1.mlp.hook_post", "through"),
    ],
)
def test_effect_is_the_linear_part_of_the_path(model, tmp_path, hook_name, path):
    width = model.width(hook_name)
    dictionary = load_dictionary(tiny_dictionary(tmp_path, "topk", hook_name, d_in=width, d_sae=20))
    direction = normalize(dictionary.decoder_directions(), dim=1)
    if hook_name.endswith("hook_z.2"):
        direction = direction @ out_matrix(model, "z")[2 * model.d_head : 3 * model.d_head]
    elif hook_name.endswith(("hook_z", "hook_post")):
        direction = direction @ out_matrix(model, "z" if hook_name.endswith("hook_z") else "post")
    final = model.module.get_submodule(model.family.sites["ln_final.hook_normalized"].module)
    if model.family.norm.centred:
        direction = direction - direction.mean(1, keepdim=True)
    effect = (direction * final.weight) @ model.module.lm_head.weight.T
    effect = effect - effect.mean(1, keepdim=True)
    found = logit_effects(model, dictionary)
    np.testing.assert_allclose(found["promoted_values_fk"], effect.topk(20, dim=1).values, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(
        found["suppressed_values_fk"], effect.topk(20, dim=1, largest=False).values, rtol=1e-3, atol=1e-4
    )
    np.testing.assert_allclose(found["logit_edges_fe"][:, 0], effect.amin(1), rtol=1e-3, atol=1e-4)
    assert logit_path(model, dictionary).startswith(path)


@pytest.mark.parametrize(
    ("hook_name", "matrix", "norm"),
    [
        ("attn.hook_z", "self_attn.o_proj", "post_attention_layernorm"),
        ("attn.hook_out", None, "post_attention_layernorm"),
        ("mlp.hook_post", "mlp.down_proj", "post_feedforward_layernorm"),
        ("mlp.hook_pre", "mlp.down_proj", "post_feedforward_layernorm"),
        ("mlp.hook_out", None, "post_feedforward_layernorm"),
        ("ln2_post.hook_normalized", None, "post_feedforward_layernorm"),
        ("hook_mlp_out", None, None),
    ],
)
def test_effect_goes_through_the_gain_of_a_norm_behind(tmp_path, hook_name, matrix, norm):
    model = load_language_model(tiny_model(tmp_path, "gemma2"), device="cpu")
    hook_name = f"blocks.1.{hook_name}"
    dictionary = load_dictionary(tiny_dictionary(tmp_path, "topk", hook_name, d_in=model.width(hook_name), d_sae=20))
    direction = normalize(dictionary.decoder_directions(), dim=1)
    block = model.module.model.layers[1]
    if matrix:
        direction = direction @ block.get_submodule(matrix).weight.T
    if norm:
        direction = direction * (1 + block.get_submodule(norm).weight)
    effect = (direction * (1 + model.module.model.norm.weight)) @ model.module.lm_head.weight.T
    effect = effect - effect.mean(1, keepdim=True)
    found = logit_effects(model, dictionary)
    np.testing.assert_allclose(found["promoted_values_fk"], effect.topk(20, dim=1).values, rtol=1e-3, atol=1e-4)


def test_effect_needs_no_gain(tmp_path):
    model = load_language_model(tiny_model(tmp_path, "olmo"), device="cpu")
    dictionary = load_dictionary(tiny_dictionary(tmp_path, "topk", d_sae=20))
    direction = normalize(dictionary.decoder_directions(), dim=1)
    effect = (direction - direction.mean(1, keepdim=True)) @ model.module.lm_head.weight.T
    effect = effect - effect.mean(1, keepdim=True)
    found = logit_effects(model, dictionary)["promoted_values_fk"]
    np.testing.assert_allclose(found, effect.topk(20, dim=1).values, rtol=1e-3, atol=1e-4)


def test_neighbours_leave_zero_rows_out(tmp_path):
    dictionary = load_dictionary(tiny_dictionary(tmp_path, "topk", d_sae=10))
    dictionary.decoder.w_dec_fo[3] = 0
    ids, cosines = neighbours(dictionary.decoder_directions())
    assert (ids[3] == -1).all()
    assert not (ids == 3).any()
    assert (np.diff(cosines[0][:8]) <= 0).all()
    assert ids[0][8:].tolist() == [-1] * 8
    assert torch.isfinite(torch.from_numpy(cosines)).all()
