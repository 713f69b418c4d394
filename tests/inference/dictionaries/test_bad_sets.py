"""Sets, sequences and transforms that cannot be right are refused with the file, the tensor or the reason."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from inference.dictionaries import find_dictionaries, load_dictionary, read_config
from inference.dictionaries.config import (
    DamagedDictionary,
    SeveralDictionaries,
    UnknownDictionary,
    UnsupportedDictionary,
)
from tests.inference.dictionaries import llamascopium_layouts, set_layouts
from tests.inference.dictionaries.writing import Draw, write_json


@pytest.fixture
def draw():
    return Draw(torch.Generator().manual_seed(3))


def change(path: Path, **tensors) -> None:
    """Replace tensors of a file; None takes one out. A name's dots are written as two underscores."""
    stored = load_file(path)
    for name, value in tensors.items():
        name = name.replace("__", ".")
        stored = {key: tensor for key, tensor in stored.items() if key != name}
        if value is not None:
            stored[name] = value
    save_file(stored, path)


def change_json(path: Path, **entries) -> None:
    write_json(path, json.loads(path.read_text()) | entries)


def refused(path, kind, *words):
    with pytest.raises(kind) as error:
        load_dictionary(path, device="cpu")
    assert error.value.remedy
    for word in words:
        assert word in str(error.value) or word in str(error.value.details), word
    return error.value


@pytest.mark.parametrize("missing", ["W_enc_0.safetensors", "W_dec_1.safetensors", "W_dec_2.safetensors"])
def test_a_set_without_one_of_its_files_names_it(tmp_path, draw, missing):
    written = set_layouts.circuit_tracer_clt(tmp_path, draw, "relu", missing=missing)
    refused(written.path, DamagedDictionary, missing, "is missing")


def test_a_whole_set_is_listed_and_a_part_that_is_not_there_refused(tmp_path, draw):
    folder = tmp_path / "clt"
    set_layouts.circuit_tracer_clt(folder, draw, "relu")
    error = refused(folder, SeveralDictionaries, "holds 3 dictionaries")
    assert error.details["suggestions"] == [f"{folder}#{layer}" for layer in range(3)]
    assert list(find_dictionaries(tmp_path)) == [Path(f"{folder}#{layer}") for layer in range(3)]
    refused(f"{folder}#7", UnknownDictionary, "no part '7'")


def test_layers_of_contradictory_widths_name_the_tensor(tmp_path, draw):
    written = set_layouts.circuit_tracer_clt(tmp_path, draw, "relu")
    change(tmp_path / "W_dec_1.safetensors", W_dec_1=torch.ones(99, 2, 17))
    refused(written.path, DamagedDictionary, "W_enc_1")


def test_a_decoder_for_too_few_layers_is_refused(tmp_path, draw):
    written = set_layouts.circuit_tracer_clt(tmp_path, draw, "relu")
    change(tmp_path / "W_dec_1.safetensors", W_dec_1=torch.ones(105, 1, 17))
    refused(written.path, DamagedDictionary, "W_dec_1", "nothing at")


def test_what_is_not_a_number_is_named_by_its_tensor(tmp_path, draw):
    written = set_layouts.circuit_tracer_clt(tmp_path, draw, "relu")
    bad = torch.ones(105, 2, 17)
    bad[3, 1, 5] = torch.nan
    change(tmp_path / "W_dec_1.safetensors", W_dec_1=bad)
    refused(written.path, DamagedDictionary, "W_dec_1", "not finite")


def test_a_decoder_that_writes_to_earlier_layers_is_refused(tmp_path, draw):
    written = set_layouts.gemma_scope_2_layers(tmp_path, draw, "clt")
    folder = Path(str(written.path).partition("#")[0])
    change(folder / "params_layer_1.safetensors", w_dec=torch.ones(105, 3, 24))
    refused(written.path, DamagedDictionary, "w_dec", "from layer 1 on")


def test_a_crosscoder_whose_layers_nothing_names_is_refused(tmp_path, draw):
    written = set_layouts.gemma_scope_2_layers(tmp_path, draw, "crosscoder")
    folder = Path(str(written.path).partition("#")[0])
    moved = folder.rename(folder.with_name("width_16k"))
    refused(f"{moved}#1", UnsupportedDictionary, "which layers of the model")


@pytest.mark.parametrize("told", [{}, {"hook_in": "blocks.7.hook_resid_post"}], ids=["nothing", "one point"])
def test_a_crosscoder_needs_its_hook_points(tmp_path, draw, told):
    written = set_layouts.crosscoder_learning(tmp_path, draw, "CrossCoder")
    write_json(tmp_path / "facet.json", told)
    refused(written.path, UnsupportedDictionary, "reads 2 hook points", "hook_in")


def test_a_crosscoder_of_an_unknown_code_is_refused(tmp_path, draw):
    written = set_layouts.crosscoder_learning(tmp_path, draw, "BatchTopKCrossCoder")
    change(tmp_path / "model.safetensors", code_normalization_id=torch.tensor(9))
    refused(written.path, DamagedDictionary, "code_normalization_id is 9")


def test_two_models_without_their_factors_are_refused(tmp_path, draw):
    written = set_layouts.model_diff(tmp_path, draw, "crosscoder")
    change_json(tmp_path / "cfg.json", model_name="another")
    refused(written.path, UnsupportedDictionary, "factors", "input_scale")
    write_json(tmp_path / "facet.json", {"input_scale": [0.3, 0.2]})
    config = read_config(written.path)
    assert config.input_scale == config.output_scale == (0.3, 0.2)
    assert config.hook_in.startswith("another/blocks.14.hook_resid_pre+another-it/")
    assert config.owners == {"another", "another-it"}


def test_two_models_are_restated_by_the_names_that_they_have_here(tmp_path, draw):
    written = set_layouts.model_diff(tmp_path, draw, "crosscoder")
    here = "my-base/blocks.1.hook_resid_pre+my-chat/blocks.1.hook_resid_pre"
    write_json(tmp_path / "facet.json", {"hook_in": here})
    config = read_config(written.path)
    assert config.hook_in == config.hook_out == here
    assert config.input_scale == (0.2758961493232058, 0.24422852496546169)


@pytest.mark.parametrize(
    ("kind", "act_fn"),
    [("crosscoder", "topk"), ("clt", "layertopk"), ("clt", "batchtopk"), ("lorsa", "batchtopk"), ("sae", "gelu")],
)
def test_what_competes_across_layers_or_points_is_refused_with_the_reason(tmp_path, draw, kind, act_fn):
    written = getattr(llamascopium_layouts, kind)(tmp_path, draw, f"{kind} relu")
    change_json(tmp_path / "config.json", act_fn=act_fn)
    refused(written.path, UnsupportedDictionary, act_fn, "depends on the others")


def test_a_file_without_its_average_length_names_it(tmp_path, draw):
    written = llamascopium_layouts.sae(tmp_path, draw, "sae relu")
    change(tmp_path / "sae_weights.safetensors", dataset_average_activation_norm__blocks__3__hook_mlp_out=None)
    refused(written.path, DamagedDictionary, "dataset_average_activation_norm.blocks.3.hook_mlp_out")


def test_transforms_that_are_not_as_many_as_features_are_refused(tmp_path, draw):
    written = llamascopium_layouts.molt(tmp_path, draw, "molt jumprelu")
    change_json(tmp_path / "config.json", rank_counts={"2": 65})
    refused(written.path, DamagedDictionary, "65 transforms for 105 features")


def test_heads_that_features_do_not_share_evenly_are_refused(tmp_path, draw):
    written = llamascopium_layouts.lorsa(tmp_path, draw, "lorsa topk")
    change(tmp_path / "sae_weights.safetensors", W_Q=torch.ones(4, 24, 6))
    refused(written.path, DamagedDictionary, "query heads")


def test_a_text_longer_than_the_positions_is_refused(tmp_path, draw):
    written = llamascopium_layouts.lorsa(tmp_path, draw, "lorsa topk")
    dictionary = load_dictionary(written.path, device="cpu")
    with pytest.raises(Exception, match="knows 80 positions"):
        dictionary.encode(torch.randn(81, 24))
    # Two sequences have positions of their own.
    assert dictionary.encode(torch.randn(81, 24), [40, 41]).n_tokens == 81


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"n_heads": 4}, "4 heads"),
        ({"sae_diff_type": "nmf"}, "nmf"),
        ({"n_attn_layers": 3}, "attn_layers.2"),
        ({"kval_topk": 1000}, "k is 1000"),
    ],
)
def test_a_temporal_config_that_cannot_be_right_is_refused(tmp_path, draw, entry, words):
    import yaml

    written = set_layouts.temporal_saes(tmp_path, draw, "temporal")
    conf = yaml.safe_load((written.path / "conf.yaml").read_text())
    conf["sae"] |= entry
    (written.path / "conf.yaml").write_text(yaml.safe_dump(conf))
    refused(written.path, (DamagedDictionary, UnsupportedDictionary), words)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"activation_fn": "batchtopk"}, "compete across layers"),
        ({"normalization_method": "mean_std"}, "statistics are not in the files"),
        ({"enable_feature_scale": True}, "feature offsets or scales"),
        ({"num_layers": 5}, "num_layers is 5"),
        ({"tl_output_template": None, "mlp_output_template": None}, "tl_output_template"),
    ],
)
def test_a_cross_layer_config_that_facet_does_not_compute_is_refused(tmp_path, draw, entry, words):
    written = set_layouts.decode_clt(tmp_path, draw, "relu")
    change_json(tmp_path / "cfg.json", **entry)
    refused(written.path, (DamagedDictionary, UnsupportedDictionary), words)
