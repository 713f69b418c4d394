"""Input that is damaged, contradictory or hostile gets one line of cause and one of remedy, and nothing is run."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from inference.dictionaries import load_dictionary, read_config
from inference.dictionaries.config import (
    DamagedDictionary,
    SeveralDictionaries,
    UnknownDictionary,
    UnsupportedDictionary,
)
from inference.dictionaries.formats import FORMATS, find_dictionaries
from inference.dictionaries.formats.place import OutsideFolder
from inference.dictionaries.storage.pickles import RefusedPickle
from inference.errors import FacetError
from tests.inference.dictionaries.layouts import CASES, Draw, F

ONE_OF_EACH = {layout: next(write for key, write in CASES.items() if key[0] == layout) for layout in FORMATS}


def write(folder, layout, name=None):
    writer = CASES[layout, name] if name else ONE_OF_EACH[layout]
    return writer(folder, Draw(torch.Generator().manual_seed(3))).path


@pytest.fixture(params=FORMATS)
def folder(request, tmp_path):
    """A dictionary of each layout."""
    return write(tmp_path, request.param)


def assert_plain(error):
    """Assert that a person can act on an error: a line of cause and a line of remedy."""
    assert isinstance(error, FacetError)
    assert error.cause and error.remedy
    assert "\n" not in error.cause + error.remedy


@pytest.mark.parametrize("part", [0.0, 0.4, 0.999])
def test_truncated_files_are_refused(folder, part):
    path = Path(read_config(folder).weights)
    data = path.read_bytes()
    path.write_bytes(data[: int(part * len(data))])
    with pytest.raises(DamagedDictionary) as caught:
        load_dictionary(folder, device="cpu")
    assert_plain(caught.value)
    assert path.name in caught.value.cause


def test_bytes_that_changed_inside_an_archive_are_noticed(tmp_path):
    folder = write(tmp_path, "gemma_scope")
    path = folder / "params.npz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(DamagedDictionary, match="archive is damaged"):
        load_dictionary(folder, device="cpu")


def test_missing_tensors_are_named(tmp_path):
    folder = write(tmp_path, "gemma_scope_2")
    tensors = load_file(folder / "params.safetensors")
    del tensors["threshold"]
    save_file(tensors, folder / "params.safetensors")
    with pytest.raises(DamagedDictionary, match="no tensor threshold") as caught:
        read_config(folder)
    assert caught.value.details["tensor"] == "threshold"


def test_shapes_that_disagree_are_named(tmp_path):
    folder = write(tmp_path, "sparsify")
    tensors = load_file(folder / "sae.safetensors")
    save_file(tensors | {"encoder.bias": torch.zeros(F + 1)}, folder / "sae.safetensors")
    with pytest.raises(DamagedDictionary, match=r"encoder\.bias of shape \(106,\) where \(105,\) was expected"):
        read_config(folder)


@pytest.mark.parametrize(
    ("layout", "stored"),
    [("gemma_scope", "W_enc"), ("openai", "latent_bias"), ("sparsify", "W_dec"), ("dictionary_learning", "bias")],
)
def test_values_that_are_not_finite_are_named(tmp_path, layout, stored):
    folder = write(tmp_path, layout)
    path = Path(read_config(folder).weights)
    if path.suffix == ".npz":
        arrays = dict(np.load(path))
        arrays[stored].reshape(-1)[5] = np.inf
        np.savez(path, **arrays)
    else:
        tensors = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
        tensors[stored].reshape(-1)[5] = torch.nan
        (save_file if path.suffix == ".safetensors" else torch.save)(tensors, path)
    with pytest.raises(DamagedDictionary, match=f"{stored} has values that are not finite") as caught:
        load_dictionary(folder, device="cpu")
    assert caught.value.details["tensor"] == stored


@pytest.mark.parametrize(
    ("layout", "name", "config", "change", "error", "named"),
    [
        ("saelens", "standard", "cfg.json", {"architecture": "hexagonal"}, UnsupportedDictionary, "matching_pursuit"),
        ("saelens", "jumprelu", "cfg.json", {"architecture": "standard"}, DamagedDictionary, "holds threshold"),
        ("saelens", "gated", "cfg.json", {"architecture": "topk", "k": 3}, DamagedDictionary, "b_gate"),
        ("sparsify", "topk", "cfg.json", {"activation": "softmax"}, UnsupportedDictionary, "groupmax"),
        ("sparsify", "topk", "cfg.json", {"k": 0}, DamagedDictionary, "k is 0"),
        ("sparsify", "groupmax", "cfg.json", {"k": 8}, DamagedDictionary, "8 groups"),
        ("gemma_scope_2", None, "config.json", {"architecture": "relu"}, UnsupportedDictionary, "jump_relu"),
        ("llama_scope", "relu", "hyperparams.json", {"act_fn": "gelu"}, UnsupportedDictionary, "jumprelu"),
        (
            "llama_scope",
            "relu",
            "hyperparams.json",
            {"norm_activation": "batch-wise"},
            UnsupportedDictionary,
            "dataset",
        ),
        ("llama_scope", "jumprelu", "hyperparams.json", {"jump_relu_threshold": None}, DamagedDictionary, "threshold"),
        ("vectors", "relu", "vectors.json", {"labels": ["one"]}, DamagedDictionary, "1 labels for 105"),
        ("vectors", "relu", "vectors.json", {"hook_in": None}, UnsupportedDictionary, r"facet\.json"),
    ],
)
def test_configs_that_cannot_be_right_are_refused(tmp_path, layout, name, config, change, error, named):
    folder = write(tmp_path, layout, name)
    told = json.loads((folder / config).read_text())
    (folder / config).write_text(json.dumps(told | change))
    with pytest.raises(error, match=named) as caught:
        read_config(folder)
    assert_plain(caught.value)


@pytest.mark.parametrize(
    ("change", "error", "named"),
    [
        ({"dict_class": "CrossCoder"}, UnsupportedDictionary, "BatchTopKSAE"),
        ({"dict_class": "GatedAutoEncoder"}, DamagedDictionary, "calls it GatedAutoEncoder"),
        ({"dict_class": None}, UnsupportedDictionary, "AutoEncoderTopK or BatchTopKSAE"),
        ({"k": 9}, DamagedDictionary, "k 7, and config.json says 9"),
    ],
    ids=["unknown", "contradictory", "ambiguous", "k"],
)
def test_dictionary_learning_configs_that_cannot_be_right_are_refused(tmp_path, change, error, named):
    folder = write(tmp_path, "dictionary_learning", "BatchTopKSAE")
    trainer = json.loads((folder / "config.json").read_text())["trainer"]
    (folder / "config.json").write_text(json.dumps({"trainer": trainer | change}))
    with pytest.raises(error, match=named) as caught:
        read_config(folder)
    assert_plain(caught.value)


def test_a_factor_that_is_needed_and_nowhere_is_asked_for(tmp_path):
    folder = write(tmp_path, "llama_scope_r1")
    (folder / "facet.json").unlink()
    with pytest.raises(UnsupportedDictionary, match="norm_scaling_factor") as caught:
        read_config(folder)
    assert_plain(caught.value)


class Boom:
    """What a hostile file would do."""

    ran = False

    def __reduce__(self):
        return (setattr, (Boom, "ran", True))


@pytest.mark.parametrize(
    "save", [torch.save, lambda what, path: path.write_bytes(pickle.dumps(what))], ids=["zip", "bare"]
)
def test_pickles_that_run_code_are_refused_unrun(tmp_path, save):
    save({"W_enc": torch.zeros(2, 2), "cfg": Boom()}, tmp_path / "sae.pt")
    with pytest.raises(RefusedPickle) as caught:
        read_config(tmp_path / "sae.pt")
    assert_plain(caught.value)
    assert not Boom.ran


def test_refused_pickles_name_what_they_would_run(tmp_path):
    torch.save({"cfg": Path("x"), "state_dict": {}}, tmp_path / "sae.pt")
    with pytest.raises(RefusedPickle, match=r"would run pathlib\.\w+"):
        read_config(tmp_path / "sae.pt")


def test_an_unknown_folder_says_what_was_looked_for_and_found(tmp_path):
    (tmp_path / "readme.txt").write_text("nothing")
    with pytest.raises(UnknownDictionary, match=r"which has readme\.txt") as caught:
        read_config(tmp_path)
    assert_plain(caught.value)
    assert all(name in caught.value.remedy for name in FORMATS)
    with pytest.raises(UnknownDictionary, match="nothing at"):
        read_config(tmp_path / "nowhere")


def test_a_folder_of_several_dictionaries_lists_them(tmp_path):
    paths = [write(tmp_path / layout, layout) for layout in ("saelens", "gemma_scope", "circuit_tracer")]
    # A file among others is a dictionary of its own.
    paths.append(paths[-1].with_name("layer_6.safetensors"))
    paths[-1].write_bytes(paths[-2].read_bytes())
    with pytest.raises(SeveralDictionaries, match="4 dictionaries") as caught:
        read_config(tmp_path)
    assert sorted(caught.value.details["suggestions"]) == sorted(str(path) for path in paths)
    assert set(find_dictionaries(tmp_path)) == set(paths)


def test_links_out_of_the_folder_are_refused_but_for_the_hubs_own(tmp_path):
    folder = write(tmp_path / "real", "saelens")
    weights = folder / "sae_weights.safetensors"
    elsewhere = weights.rename(tmp_path / "elsewhere.safetensors")
    weights.symlink_to(elsewhere)
    with pytest.raises(OutsideFolder, match="leads out of its folder"):
        read_config(folder)
    snapshot = tmp_path / "models--a--b/snapshots/0123/sae"
    blob = tmp_path / "models--a--b/blobs/4567"
    blob.parent.mkdir(parents=True)
    elsewhere.rename(blob)
    folder.rename((snapshot.parent.mkdir(parents=True), snapshot)[1])
    (snapshot / weights.name).unlink()
    (snapshot / weights.name).symlink_to(blob)
    assert read_config(snapshot).format == "saelens"


def test_facet_json_states_what_a_layout_leaves_out(tmp_path):
    written = ONE_OF_EACH["openai"](tmp_path, Draw(torch.Generator().manual_seed(3)))
    alone = written.path.rename(tmp_path / "sae.pt")
    with pytest.raises(UnsupportedDictionary, match="where the dictionary reads") as caught:
        read_config(alone)
    assert_plain(caught.value)
    (tmp_path / "facet.json").write_text('{"hook_in": "blocks.1.hook_mlp_out", "model_name": "mine"}')
    config = read_config(alone)
    assert (config.hook_in, config.model_name) == ("blocks.1.hook_mlp_out", "mine")
    assert "facet.json states hook_in, model_name." in config.evidence
    (tmp_path / "facet.json").write_text('{"hook": "blocks.1.hook_mlp_out"}')
    with pytest.raises(UnsupportedDictionary, match="hook_in"):
        read_config(alone)


def test_facet_json_moves_an_sae_as_a_whole(tmp_path):
    folder = write(tmp_path, "saelens")
    (folder / "facet.json").write_text('{"hook_in": "blocks.0.hook_resid_pre"}')
    config = read_config(folder)
    assert (config.hook_in, config.hook_out, config.is_transcoder) == (*["blocks.0.hook_resid_pre"] * 2, False)
    (folder / "facet.json").write_text('{"input_scale": 0}')
    with pytest.raises(DamagedDictionary, match="factors of its input"):
        read_config(folder)


def test_facet_json_states_the_factor_that_saelens_does_not_save(tmp_path):
    written = CASES["saelens", "jumprelu"](tmp_path, Draw(torch.Generator().manual_seed(3)))
    x_td = torch.randn(20, 24, dtype=torch.float64)
    plain = load_dictionary(written.path, device="cpu")
    (written.path / "facet.json").write_text('{"input_scale": 0.25}')
    scaled = load_dictionary(written.path, device="cpu")
    x_td = x_td.float()
    torch.testing.assert_close(scaled.encode(4 * x_td).dense(), plain.encode(x_td).dense(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(scaled.reconstruct(4 * x_td), 4 * plain.reconstruct(x_td), atol=1e-5, rtol=1e-4)
