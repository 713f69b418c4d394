"""What SAELens' older versions wrote, and what its configs say beside the architecture."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from inference.dictionaries import load_dictionary, read_config
from inference.dictionaries.config import UnsupportedDictionary
from tests.inference.dictionaries.layouts import CASES, D, Draw, F, K


def write(folder, name="standard"):
    return CASES["saelens", name](folder, Draw(torch.Generator().manual_seed(3)))


def rewrite(path, *, flat=None, remove=(), **changes):
    """Change a config, and put its metadata at the top level if `flat` entries are given."""
    cfg = json.loads((path / "cfg.json").read_text()) | changes
    if flat is not None:
        cfg |= cfg.pop("metadata") | flat
    (path / "cfg.json").write_text(json.dumps({key: value for key, value in cfg.items() if key not in remove}))


def assert_close(ours, expected):
    torch.testing.assert_close(ours, expected.float(), atol=1e-5, rtol=1e-4)


@pytest.fixture
def x_td():
    return 2 * torch.randn(40, D, generator=torch.Generator().manual_seed(4))


def test_flat_configs_name_topk_by_its_activation(tmp_path, x_td):
    written = write(tmp_path, "topk")
    kwargs = {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": K}, "sae_lens_version": "3.11"}
    rewrite(written.path, flat=kwargs, architecture="standard", remove=("k",))
    dictionary = load_dictionary(written.path, device="cpu")
    assert (dictionary.config.architecture, dictionary.config.k) == ("topk", K)
    assert_close(dictionary.encode(x_td).dense(), written.encode(x_td.double()))
    assert "SAELens 3.11 writes them, in the flat form" in dictionary.config.evidence[0]


def test_the_first_configs_call_hooks_points(tmp_path):
    written = write(tmp_path)
    flat = {"hook_point": "blocks.2.attn.hook_z", "hook_point_head_index": 3, "hook_point_layer": 2}
    rewrite(written.path, flat=flat, remove=("hook_name",))
    assert read_config(written.path).hook_in == "blocks.2.attn.hook_z.3"


def test_unknown_activations_of_flat_configs_are_refused(tmp_path):
    written = write(tmp_path)
    rewrite(written.path, flat={"activation_fn_str": "tanh-relu"})
    with pytest.raises(UnsupportedDictionary, match="tanh-relu"):
        read_config(written.path)


def test_thresholds_may_be_stored_as_logarithms(tmp_path, x_td):
    written = write(tmp_path, "jumprelu")
    weights = written.path / "sae_weights.safetensors"
    tensors = load_file(weights)
    save_file(tensors | {"log_threshold": tensors.pop("threshold").log()}, weights)
    dictionary = load_dictionary(written.path, device="cpu")
    assert_close(dictionary.encode(x_td).dense(), written.encode(x_td.double()))


def test_a_finetuned_factor_multiplies_what_is_decoded(tmp_path, x_td):
    written = write(tmp_path)
    weights = written.path / "sae_weights.safetensors"
    factor_f = 0.5 + torch.rand(F, generator=torch.Generator().manual_seed(5))
    save_file(load_file(weights) | {"scaling_factor": factor_f}, weights)
    rewrite(written.path, finetuning_scaling_factor=True)
    a_tf = written.encode(x_td.double())
    y_td = written.decode(a_tf * factor_f, x_td.double())
    assert_close(load_dictionary(written.path, device="cpu").reconstruct(x_td), y_td)


@pytest.mark.parametrize("mode", ["expected_average_only_in", True])
def test_a_scale_that_is_not_applied_is_said_plainly(tmp_path, mode):
    written = write(tmp_path)
    rewrite(written.path, normalize_activations=mode)
    config = read_config(written.path)
    assert config.normalize == "none"
    assert any("nothing is done at run time" in sentence for sentence in config.evidence)


def test_hook_names_that_are_modules_are_translated(tmp_path):
    written = write(tmp_path)
    rewrite(written.path, metadata={"hook_name": "model.layers.5", "model_class_name": "AutoModelForCausalLM"})
    assert read_config(written.path).hook_in == "blocks.5.hook_resid_post"


def test_nested_groups_tell_the_level_of_a_feature(tmp_path):
    written = write(tmp_path, "jumprelu")
    metadata = {"hook_name": "blocks.1.hook_resid_post", "matryoshka_widths": [20, 60, F]}
    rewrite(written.path, metadata=metadata)
    config = read_config(written.path)
    assert config.group_sizes == (20, 40, 45)
    assert [config.group_of(feature) for feature in (0, 19, 20, 59, 60, F - 1)] == [0, 0, 1, 1, 2, 2]
    assert read_config(write(tmp_path / "plain").path).group_of(0) is None


@pytest.mark.parametrize("by", ["config", "facet.json"])
def test_dictionaries_of_centred_models_centre_their_input(tmp_path, x_td, by):
    written = write(tmp_path)
    kwargs = {"model_from_pretrained_kwargs": {"center_writing_weights": True}} if by == "config" else {}
    if by == "facet.json":
        (written.path / "facet.json").write_text('{"centred": true}')
    metadata = {"hook_name": "blocks.1.hook_resid_pre", "model_name": "gpt2-small"}
    rewrite(written.path, metadata=metadata | kwargs)
    dictionary = load_dictionary(written.path, device="cpu")
    assert any(sentence.startswith("Inputs are centred") for sentence in dictionary.config.evidence)
    mean_t1 = x_td.double().mean(1, keepdim=True)
    a_tf = written.encode(x_td.double() - mean_t1)
    assert_close(dictionary.encode(x_td).dense(), a_tf)
    assert_close(dictionary.reconstruct(x_td), written.decode(a_tf, x_td) + mean_t1)


@pytest.mark.parametrize(
    ("model_name", "kwargs", "said"),
    [
        ("gpt2-small", {}, "does not say whether"),
        ("gpt2-small", {"model_from_pretrained_kwargs": {"center_writing_weights": False}}, ""),
        ("gemma-2-2b", {"model_from_pretrained_kwargs": {"center_writing_weights": True}}, ""),
    ],
    ids=["silent", "not", "no-layer-norm"],
)
def test_other_dictionaries_do_not_centre(tmp_path, model_name, kwargs, said):
    written = write(tmp_path)
    rewrite(written.path, metadata={"hook_name": "blocks.1.hook_resid_pre", "model_name": model_name} | kwargs)
    config = read_config(written.path)
    assert config.normalize == "none"
    sentences = [sentence for sentence in config.evidence if "centred" in sentence]
    assert bool(sentences) == bool(said)
    assert all(said in sentence for sentence in sentences)
