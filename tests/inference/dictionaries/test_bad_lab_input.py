"""What cannot be right in the layouts of single laboratories is refused, with a cause and a remedy."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from inference.dictionaries import find_dictionaries, load_dictionary, read_config
from inference.dictionaries.config import DamagedDictionary, SeveralDictionaries, UnsupportedDictionary
from inference.dictionaries.storage.pickles import RefusedPickle
from inference.errors import FacetError
from tests.inference.dictionaries.layouts import CASES, VARIANTS, Draw
from tests.inference.dictionaries.test_bad_input import assert_plain


def write(folder, layout, name):
    return CASES[layout, name](folder, Draw(torch.Generator().manual_seed(3))).path


def change_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_tensors(path, change):
    """Let a function change what a file holds."""
    stored = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
    stored = change(stored)
    (save_file if path.suffix == ".safetensors" else torch.save)(stored, path)


@pytest.mark.parametrize(
    ("layout", "name", "stored"),
    [
        ("bussmann", "jumprelu", "jumprelu.log_threshold"),
        ("checkpoint", "transcoder", "state_dict.b_dec_out"),
        ("e2e_sae", "relu", "blocks-6-hook_resid_pre.decoder.bias"),
        ("goodfire", "topk", "decoder.weight"),
        ("interplm", "ReLUSAE", "bias"),
        ("itda", "itda", "atoms"),
        ("mlsae", "topk", "pre_encoder_bias"),
        ("neel_nanda", "relu", "b_enc"),
        ("noanabeshima", "matryoshka", "W_dec"),
        ("overcomplete", "RATopKSAE", "dictionary.C"),
        ("own_model", "neurons", "model.layers.2.mlp.fc2.weight"),
        ("plain", "kronsae", "Q"),
        ("snmf", "snmf", "F"),
    ],
)
def test_values_that_are_not_finite_are_named(tmp_path, layout, name, stored):
    path = write(tmp_path, layout, name)

    def spoil(content):
        tensor = content
        if not isinstance(content, torch.Tensor):
            tensor = content.get("state_dict", content)[stored.removeprefix("state_dict.")]
        tensor[(1,) * tensor.ndim] = torch.nan
        return content

    change_tensors(Path(read_config(path).weights), spoil)
    with pytest.raises(DamagedDictionary, match="has values that are not finite") as caught:
        load_dictionary(path, device="cpu")
    assert caught.value.details["tensor"] == stored
    assert_plain(caught.value)


@pytest.mark.parametrize(
    ("layout", "name", "file", "change", "error", "named"),
    [
        ("bussmann", "topk", "config.json", {"sae_type": "spline"}, UnsupportedDictionary, "batchtopk"),
        ("bussmann", "topk", "config.json", {"act_size": "99"}, DamagedDictionary, "act_size is 24.*says 99"),
        ("bussmann", "topk", "config.json", {"top_k": "0"}, DamagedDictionary, "k is 0"),
        ("bussmann", "global-matryoshka-topk", "config.json", {"group_sizes": [1, 2]}, DamagedDictionary, "dict_size"),
        ("bussmann", "topk", "facet.json", {"threshold": 0.5}, UnsupportedDictionary, "states threshold"),
        ("mlsae", "topk", "config.json", {"tuned_lens": True}, UnsupportedDictionary, "tuned_lens"),
        ("mlsae", "topk", "config.json", {"k": None}, DamagedDictionary, "k is None"),
        ("neel_nanda", "relu", "gpt2-small_L5_Hcat_z_cfg.json", {"act_size": 25}, DamagedDictionary, "says 25"),
        ("overcomplete", "TopKSAE", "facet.json", {"k": 0}, DamagedDictionary, "k is 0"),
        ("overcomplete", "TopKSAE", "facet.json", {"dict_class": "QSAE"}, UnsupportedDictionary, "QSAE"),
        ("overcomplete", "MpSAE", "facet.json", {"input_scale": 2.0}, DamagedDictionary, "scales would set them apart"),
        ("plain", "topk", "dictionary.json", {"architecture": "tree"}, UnsupportedDictionary, "kronsae"),
        ("plain", "topk", "dictionary.json", {"normalize": "batch"}, UnsupportedDictionary, "layer_norm"),
        ("plain", "kronsae", "dictionary.json", {"heads": 4}, DamagedDictionary, "4 heads"),
        ("plain", "kronsae", "dictionary.json", {"heads": "5"}, DamagedDictionary, "heads is '5'"),
        ("plain", "codebook", "dictionary.json", {"combine": "max"}, UnsupportedDictionary, "mean"),
        ("snmf", "snmf", "../config.json", {"normalize": True}, UnsupportedDictionary, "normalize"),
    ],
)
def test_configs_that_cannot_be_right_are_refused(tmp_path, layout, name, file, change, error, named):
    path = write(tmp_path, layout, name)
    config = Path(read_config(path).weights).parent / file
    if not config.exists():
        config.write_text("{}")
    change_json(config, **change)
    with pytest.raises(error, match=named) as caught:
        read_config(path)
    assert_plain(caught.value)


@pytest.mark.parametrize(
    ("layout", "name", "missing"),
    [
        ("bussmann", "topk", "W_dec"),
        ("interplm", "ReLUSAE", "decoder.weight"),
        ("itda", "itda", "atoms"),
        ("mlsae", "topk", "decoder.weight"),
        ("plain", "jumprelu", "threshold"),
    ],
)
def test_what_is_missing_is_named(tmp_path, layout, name, missing):
    path = write(tmp_path, layout, name)

    def drop(content):
        # Of a file that is one tensor the other file is left, which is not what the layout needs.
        return torch.zeros(3) if layout == "itda" else {key: value for key, value in content.items() if key != missing}

    change_tensors(Path(read_config(path).weights), drop)
    with pytest.raises(FacetError) as caught:
        read_config(path)
    assert_plain(caught.value)
    assert missing in caught.value.cause + caught.value.remedy


def test_what_no_file_says_is_asked_for(tmp_path):
    path = write(tmp_path, "bussmann", "batchtopk")
    change_tensors(path / "sae.pt", lambda content: {key: content[key] for key in content if key != "threshold"})
    with pytest.raises(UnsupportedDictionary, match="has no threshold") as caught:
        read_config(path)
    assert "batch_rule" in caught.value.remedy
    (path / "facet.json").write_text('{"threshold": 0.6}')
    assert read_config(path).options["threshold"] == 0.6
    path = write(tmp_path / "vision", "saev", "TopK")
    path.with_name("facet.json").unlink()
    with pytest.raises(UnsupportedDictionary, match="where the dictionary reads"):
        read_config(path)
    path = write(tmp_path / "two", "interplm", "TopKSAE")
    path.with_name("facet.json").unlink()
    with pytest.raises(UnsupportedDictionary, match="TopKSAE or BatchTopKSAE"):
        read_config(path)
    path = write(tmp_path / "state", "overcomplete", "TopKSAE")
    path.with_name("facet.json").write_text('{"hook_in": "blocks.0.hook_resid_post"}')
    with pytest.raises(UnsupportedDictionary, match="neither k nor a threshold"):
        read_config(path)


def test_origins_of_another_number_of_atoms_are_refused(tmp_path):
    path = write(tmp_path, "itda", "itda")
    torch.save(torch.zeros(3, 2, dtype=torch.int64), path / "atom_indices.pt")
    with pytest.raises(DamagedDictionary, match=r"shape is \(3, 2\) for 105 atoms"):
        read_config(path)


def test_a_header_that_is_no_json_is_refused(tmp_path):
    path = write(tmp_path, "saev", "Relu")
    path.write_bytes(b"{not json}\n" + path.read_bytes().partition(b"\n")[2])
    with pytest.raises(DamagedDictionary, match="first line is not JSON") as caught:
        read_config(path)
    assert_plain(caught.value)


def test_a_checkpoint_with_an_object_for_its_cfg_is_refused(tmp_path):
    torch.save({"cfg": Path("runner"), "state_dict": {"W_enc": torch.zeros(2, 3)}}, tmp_path / "sae.pt")
    with pytest.raises(RefusedPickle, match="pathlib") as caught:
        read_config(tmp_path / "sae.pt")
    assert_plain(caught.value)


def test_a_file_of_several_lists_them_and_takes_one(tmp_path):
    path = VARIANTS["e2e_sae-several"](tmp_path, Draw(torch.Generator().manual_seed(3))).path
    file = Path(str(path).partition("#")[0])
    with pytest.raises(SeveralDictionaries, match="holds 2 dictionaries") as caught:
        read_config(file)
    assert caught.value.details["suggestions"] == [f"{file}#blocks.{layer}.hook_resid_pre" for layer in (2, 6)]
    assert [read_config(found).path for found in find_dictionaries(tmp_path)] == caught.value.details["suggestions"]


def test_a_multi_layer_dictionary_has_a_part_for_each_layer(tmp_path):
    folder = Path(str(write(tmp_path, "mlsae", "topk")).partition("#")[0])
    assert [path.name.rpartition("#")[2] for path in find_dictionaries(tmp_path)] == list("012345")
    change_json(folder / "config.json", layers=[1, 4])
    assert [path.name.rpartition("#")[2] for path in find_dictionaries(tmp_path)] == ["1", "4"]
    (folder / "facet.json").write_text('{"hook_in": "blocks.2.hook_resid_mid"}')
    assert read_config(folder).hook_in == "blocks.2.hook_resid_mid"
    renamed = folder.rename(folder.with_name("mine"))
    (renamed / "facet.json").unlink()
    change_json(renamed / "config.json", layers=None)
    with pytest.raises(UnsupportedDictionary, match="which layers of which model"):
        read_config(renamed)


@pytest.mark.parametrize(("layout", "name"), CASES)
def test_values_of_kinds_that_a_config_cannot_have_are_refused_or_passed_over(tmp_path, layout, name):
    path = write(tmp_path, layout, name)
    for config in tmp_path.rglob("*.json"):
        told = json.loads(config.read_text())
        for key in told:
            for value in ([], "x", {"a": 1}, -1, None, float("inf")):
                config.write_text(json.dumps(told | {key: value}))
                try:
                    read_config(path, digest=False)
                except FacetError as error:
                    assert_plain(error)
        config.write_text(json.dumps(told))
