"""Where features of attention's outputs come from: sums over sources, heads and biases are the pre-activation."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from inference.activations import capture
from inference.attention_outputs import PROJECTING, SITES, untraceable
from inference.attribution import WithoutAttribution, source_attributions
from inference.dictionaries import load_dictionary
from inference.dictionaries.architectures import ACTIVATIONS, ENCODERS
from inference.dictionaries.architectures.neurons import Neurons
from inference.errors import InvalidInput
from inference.hook_points import FAMILIES
from tests.inference.lens import in_transformer_lens
from tests.tiny import TEXT, tiny_dictionary

POINTS = [
    pytest.param(family, site, id=f"{family}-{site}")
    for family, known in FAMILIES.items()
    for site in SITES
    if site in known.sites
]
INDEX = 5


@pytest.fixture
def tokens_of():
    return lambda model: model.tokenize(TEXT)


def dictionary_at(model, folder, hook_name, architecture="jumprelu", **told):
    path = tiny_dictionary(folder, architecture, hook_name, d_in=model.width(hook_name), **told)
    return load_dictionary(path, device="cpu", model=model)


@pytest.mark.parametrize(("family", "site"), POINTS)
def test_sources_and_bias_add_up_to_the_pre_activation(models, tmp_path, tokens_of, family, site):
    model = models[family]
    dictionary = dictionary_at(model, tmp_path, f"blocks.1.{site}")
    tokens = tokens_of(model)
    destinations = list(range(tokens.n_special, len(tokens)))
    found = source_attributions(model, dictionary, tokens, INDEX, destinations=destinations)
    x_td = capture(model, model.ids_bt(tokens), [dictionary.hook_in])[dictionary.hook_in][0]
    h_t = dictionary.pre_activations(x_td)[:, INDEX]
    scale = float(h_t.abs().max())
    assert [answer.destination for answer in found.attributions] == destinations
    for answer in found.attributions:
        assert sum(answer.sources) + answer.bias == pytest.approx(float(h_t[answer.destination]), abs=2e-5 * scale)
        assert abs(answer.remainder) < 2e-5 * scale
        if model.family.causal:
            assert not any(answer.sources[answer.destination + 1 :])
        assert max(map(abs, answer.sources)) > 1e-3 * scale
    assert found.frozen_norm == (site == "hook_attn_out" and "attn.hook_out" in model.family.sites)


@pytest.mark.parametrize("family", ["gpt2", "gpt_neo", "llama", "gpt_neox", "gemma2", "gpt_oss", "bert"])
def test_cutting_a_source_off_takes_away_what_it_added(models, tmp_path, tokens_of, family):
    """Zero the values of one token: what is missing at the destination then is that token's attribution."""
    model = models[family]
    name = "blocks.1.attn.hook_z"
    dictionary = dictionary_at(model, tmp_path, name)
    tokens = tokens_of(model)
    destination, source = len(tokens) - 2, len(tokens) - 5
    [answer] = source_attributions(model, dictionary, tokens, INDEX, destinations=[destination]).attributions

    def without(module, args, output):
        changed = output.clone()
        n_values = value_width(model)
        changed[:, source, -n_values:] = 0
        return changed

    module = values_module(model, 1)
    handle = module.register_forward_hook(without) if family != "gpt_neox" else None
    if handle is None:
        handle = module.register_forward_hook(without_neox(model, source))
    try:
        [cut] = source_attributions(model, dictionary, tokens, INDEX, destinations=[destination]).attributions
        x_td = capture(model, model.ids_bt(tokens), [name])[name][0]
    finally:
        handle.remove()
    h = float(dictionary.pre_activations(x_td)[destination, INDEX])
    moved = answer.sources[source] - cut.sources[source]
    assert answer.pre_activation - h == pytest.approx(moved, abs=1e-5)
    assert abs(moved) > 1e-6


def values_module(model, layer):
    """Return the module that makes the values of a layer, at the end of what it writes."""
    attention = model.module.get_submodule(model.resolve(f"blocks.{layer}.attn.hook_z")[1].module.rpartition(".")[0])
    if model.family.name == "bert":
        attention = model.module.get_submodule(f"encoder.layer.{layer}.attention.self")
    names = ("v_proj", "value", "c_attn", "query_key_value")
    return next(getattr(attention, name) for name in names if hasattr(attention, name))


def value_width(model):
    return getattr(model.config, "num_key_value_heads", model.n_heads) * model.d_head


def without_neox(model, source):
    """GPT-NeoX has query, key and value of each head side by side."""

    def hook(module, args, output):
        changed = output.clone().view(*output.shape[:2], model.n_heads, 3, model.d_head)
        changed[:, source, :, 2] = 0
        return changed.view(output.shape)

    return hook


@pytest.mark.parametrize("mode", ["layer_norm", "constant_norm_rescale"])
def test_a_norm_of_the_dictionary_is_held_as_it_is(gpt2, tmp_path, tokens_of, mode):
    dictionary = dictionary_at(gpt2, tmp_path, "blocks.1.attn.hook_z", normalize_activations=mode)
    tokens = tokens_of(gpt2)
    found = source_attributions(gpt2, dictionary, tokens, INDEX, destinations=[7, 12])
    x_td = capture(gpt2, gpt2.ids_bt(tokens), [dictionary.hook_in])[dictionary.hook_in][0]
    h_t = dictionary.pre_activations(x_td)[:, INDEX]
    assert found.frozen_norm
    for answer in found.attributions:
        assert sum(answer.sources) + answer.bias == pytest.approx(float(h_t[answer.destination]), rel=1e-4, abs=1e-5)


def test_one_head_has_its_own_pattern_and_values(models, tmp_path, tokens_of):
    model = models["llama"]
    dictionary = dictionary_at(model, tmp_path, "blocks.1.attn.hook_z.3")
    found = source_attributions(model, dictionary, tokens_of(model), INDEX, destinations=[9])
    [answer] = found.attributions
    assert abs(answer.remainder) < 1e-5
    assert [share.head for share in answer.heads] == [3]
    assert answer.heads[0].total == pytest.approx(answer.total, abs=1e-5)


def test_heads_add_up_and_name_their_main_source(gpt2, tmp_path, tokens_of):
    dictionary = dictionary_at(gpt2, tmp_path, "blocks.1.hook_attn_out")
    [answer] = source_attributions(gpt2, dictionary, tokens_of(gpt2), INDEX, destinations=[15]).attributions
    assert sorted(share.head for share in answer.heads) == list(range(gpt2.n_heads))
    assert sum(share.total for share in answer.heads) == pytest.approx(answer.total, abs=1e-5)
    sizes = [abs(share.total) for share in answer.heads]
    assert sizes == sorted(sizes, reverse=True)
    for share in answer.heads:
        assert 0 <= share.source <= 15
        assert 0 < share.weight <= 1


def test_the_strongest_destinations_are_those_where_it_fires_most(gpt2, tmp_path, tokens_of):
    dictionary = dictionary_at(gpt2, tmp_path, "blocks.1.attn.hook_z", architecture="topk", k=40)
    tokens = tokens_of(gpt2)
    x_td = capture(gpt2, gpt2.ids_bt(tokens), [dictionary.hook_in])[dictionary.hook_in][0]
    often = int((dictionary.encode(x_td).dense() > 0).sum(0).argmax())
    found = source_attributions(gpt2, dictionary, tokens, often, limit=3)
    firing = sorted((value for value in found.activations if value), reverse=True)
    assert found.n_firing == len(firing) > 3
    assert [answer.activation for answer in found.attributions] == firing[:3]
    for answer in found.attributions:
        assert answer.activation == pytest.approx(answer.pre_activation, rel=1e-4)
        assert found.activations[answer.destination] == answer.activation
    assert 0 not in [answer.destination for answer in found.attributions], "BOS is not a destination"


def test_a_silent_feature_has_no_destinations(gpt2, tmp_path, tokens_of):
    dictionary = dictionary_at(gpt2, tmp_path, "blocks.1.attn.hook_z")
    x_td = capture(gpt2, gpt2.ids_bt(tokens_of(gpt2)), [dictionary.hook_in])[dictionary.hook_in][0]
    silent = (dictionary.encode(x_td).dense()[1:] == 0).all(0).nonzero()[0].item()
    found = source_attributions(gpt2, dictionary, tokens_of(gpt2), silent)
    assert found.attributions == ()
    assert found.n_firing == 0


def test_the_model_is_left_as_it_was(gpt2, tmp_path, tokens_of):
    dictionary = dictionary_at(gpt2, tmp_path, "blocks.1.attn.hook_z")
    runs_by = gpt2.config._attn_implementation
    source_attributions(gpt2, dictionary, tokens_of(gpt2), INDEX, destinations=[4])
    assert gpt2.config._attn_implementation == runs_by
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in gpt2.module.modules())
    assert not any("record" in vars(module) for module in gpt2.module.modules())


@pytest.mark.parametrize("destination", [0, 10_000])
def test_destinations_are_tokens_of_the_text(gpt2, tmp_path, tokens_of, destination):
    dictionary = dictionary_at(gpt2, tmp_path, "blocks.1.attn.hook_z")
    with pytest.raises(InvalidInput, match="tokens"):
        source_attributions(gpt2, dictionary, tokens_of(gpt2), INDEX, destinations=[destination])


@pytest.mark.parametrize(
    ("hook_name", "architecture", "why"),
    [
        ("blocks.1.hook_resid_post", "topk", "not the output of attention"),
        ("blocks.1.ln2.hook_normalized", "transcoder", "not the output of attention"),
    ],
)
def test_other_dictionaries_are_refused_with_the_reason(gpt2, tmp_path, tokens_of, hook_name, architecture, why):
    dictionary = dictionary_at(gpt2, tmp_path, hook_name, architecture=architecture)
    with pytest.raises(WithoutAttribution, match=why):
        source_attributions(gpt2, dictionary, tokens_of(gpt2), INDEX)


def test_what_is_refused_by_name():
    z = "blocks.1.attn.hook_z"
    assert untraceable(architecture="topk", hook_in=z) == ""
    assert "several hook points" in untraceable(architecture="topk", hook_in=f"{z}+blocks.2.attn.hook_z")
    assert "one projection" in untraceable(architecture="matching_pursuit", hook_in=z)
    assert "not the output" in untraceable(architecture="topk", hook_in="elsewhere")


def test_a_dictionary_whose_encoder_is_not_linear_is_refused_whatever_its_name(gpt2, tmp_path):
    dictionary = dictionary_at(gpt2, tmp_path, "blocks.1.attn.hook_z")
    odd = replace(dictionary, encoder=Neurons(dictionary.n_features))
    with pytest.raises(WithoutAttribution, match="not one projection"):
        source_attributions(gpt2, odd, gpt2.tokenize(TEXT), INDEX, destinations=[3])


@pytest.mark.parametrize("architecture", sorted(PROJECTING))
def test_architectures_that_project_have_linear_encoders(architecture):
    assert architecture in ACTIVATIONS
    assert architecture not in ENCODERS


@pytest.mark.interop
@pytest.mark.parametrize("family", ["gpt2", "mistral", "gpt_neox", "gemma2", "qwen3"])
def test_attribution_is_that_of_transformer_lens(models, model_folders, tmp_path, tokens_of, family):
    """Pattern and values as TransformerLens caches them give the same attribution of every source."""
    model = models[family]
    dictionary = dictionary_at(model, tmp_path, "blocks.1.attn.hook_z")
    tokens = tokens_of(model)
    hooked = in_transformer_lens(model, model_folders[family])
    with torch.inference_mode():
        _, cache = hooked.run_with_cache(model.ids_bt(tokens))
    pattern_hts, value_shk = cache["blocks.1.attn.hook_pattern"][0], cache["blocks.1.attn.hook_v"][0]
    value_shk = value_shk.repeat_interleave(model.n_heads // value_shk.shape[1], dim=1)
    w_hk = dictionary.encoder_directions([INDEX])[0].view(model.n_heads, -1)
    expected_ts = torch.einsum("hts,shk,hk->ts", pattern_hts, value_shk, w_hk)
    destinations = [3, 11, len(tokens) - 1]
    for answer in source_attributions(model, dictionary, tokens, INDEX, destinations=destinations).attributions:
        torch.testing.assert_close(torch.tensor(answer.sources), expected_ts[answer.destination], atol=2e-5, rtol=1e-4)
