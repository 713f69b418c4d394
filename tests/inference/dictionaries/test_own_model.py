"""A model's own neurons and experts as dictionaries: what the model computes itself, from its own files."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from inference.activations import capture
from inference.dashboards.geometry import geometry_of
from inference.dictionaries import ModelShape, check_fit, find_dictionaries, load_dictionary, read_config
from inference.dictionaries.config import DamagedDictionary, UnknownDictionary, UnsupportedDictionary
from inference.dictionaries.dictionary import WithoutDecoder
from inference.hook_points import FAMILIES

LAYER = 1
WITH_NEURONS = [name for name, family in FAMILIES.items() if "mlp.hook_post" in family.sites]
WITH_EXPERTS = [name for name, family in FAMILIES.items() if "mlp.hook_post" not in family.sites]


def ids_of(model):
    return torch.arange(1, 41)[None] % model.module.config.get_text_config().vocab_size


@pytest.mark.parametrize("family", WITH_NEURONS)
def test_neurons_rebuild_what_the_mlp_returns(models, model_folders, family):
    model = models[family]
    dictionary = load_dictionary(f"{model_folders[family]}#neurons:{LAYER}", device="cpu")
    x = capture(model, ids_of(model), [dictionary.hook_in, dictionary.hook_out])
    x_td, y_to = x[dictionary.hook_in][0], x[dictionary.hook_out][0]
    activations = dictionary.encode(x_td)
    assert torch.equal(activations.dense(), x_td)
    torch.testing.assert_close(dictionary.decode(activations), y_to, atol=1e-5, rtol=1e-5)
    chosen = [5, 0, 5]
    assert torch.equal(dictionary.encode_features(x_td, chosen), x_td[:, chosen])
    assert torch.equal(dictionary.encoder_directions(chosen), torch.eye(dictionary.d_in)[chosen])
    assert torch.equal(dictionary.encoder_directions(), torch.eye(dictionary.d_in))
    config = dictionary.config
    assert config.is_signed
    assert config.context_size
    shape = ModelShape(name=family, family=family, n_layers=model.n_layers, d_model=model.d_model, d_mlp=x_td.shape[1])
    check_fit(config, shape)


@pytest.mark.parametrize("family", WITH_EXPERTS)
def test_experts_weigh_as_the_models_own_router(models, model_folders, family):
    model = models[family]
    dictionary = load_dictionary(f"{model_folders[family]}#experts:{LAYER}", device="cpu")
    seen = {}
    mlp = model.module.get_submodule(model.family.sites["mlp.hook_in"].module.format(layer=LAYER))
    router = mlp.router if hasattr(mlp, "router") else mlp.gate
    handle = router.register_forward_hook(lambda _module, _args, output: seen.update(output=output))
    x_td = capture(model, ids_of(model), [dictionary.hook_in, f"blocks.{LAYER}.hook_mlp_out"])[dictionary.hook_in][0]
    handle.remove()
    _, weights_tk, indices_tk = seen["output"]
    a_tf = torch.zeros(len(x_td), dictionary.n_features).scatter(1, indices_tk, weights_tk)
    ours_tf = dictionary.encode(x_td).dense()
    assert torch.equal(ours_tf != 0, a_tf != 0)
    torch.testing.assert_close(ours_tf, a_tf, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(dictionary.encode_features(x_td, [2, 0]), a_tf[:, [2, 0]], atol=1e-6, rtol=1e-5)
    assert not dictionary.config.decodes
    with pytest.raises(WithoutDecoder):
        dictionary.reconstruct(x_td)


def test_neurons_are_compared_by_what_they_write_alone(models, model_folders):
    dictionary = load_dictionary(f"{model_folders['gpt2']}#neurons:{LAYER}", device="cpu")
    geometry = geometry_of(models["gpt2"], dictionary)
    assert (geometry.encoder_neighbour_ids_fk == -1).all()
    assert (geometry.decoder_neighbour_ids_fk >= 0).all()


def test_files_in_shards_are_read_where_they_lie(models, tmp_path):
    models["gpt_neox"].module.save_pretrained(tmp_path, max_shard_size="40KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    dictionary = load_dictionary(f"{tmp_path}#neurons:2", device="cpu")
    state = models["gpt_neox"].module.state_dict()
    assert torch.equal(dictionary.decoder_directions(), state["gpt_neox.layers.2.mlp.dense_4h_to_h.weight"].T)
    assert torch.equal(dictionary.decoder.b_out_o, state["gpt_neox.layers.2.mlp.dense_4h_to_h.bias"])


@pytest.mark.parametrize(
    ("config", "stored", "part"),
    [
        ({"model_type": "gpt2"}, "h.1.mlp.c_proj.weight", "neurons:1"),
        (
            {"model_type": "mixtral", "num_experts_per_tok": 2},
            "model.layers.1.block_sparse_moe.gate.weight",
            "experts:1",
        ),
        (
            {"model_type": "gemma3", "text_config": {"model_type": "gemma3_text"}},
            "language_model.model.layers.1.mlp.down_proj.weight",
            "neurons:1",
        ),
    ],
    ids=["without-base", "older-experts", "inside-another"],
)
def test_older_names_of_checkpoints_are_known(tmp_path, config, stored, part):
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file({stored: torch.randn(6, 4), f"vision_tower.{stored}.not": torch.zeros(1)}, tmp_path / "model.safetensors")
    read = read_config(f"{tmp_path}#{part}")
    assert next(iter(read.tensors.values())).removesuffix(".T") == stored


def test_only_who_asks_for_a_part_gets_one(model_folders):
    folder = model_folders["gpt2"]
    assert not [path for path in find_dictionaries(Path(folder)) if "neurons" in str(path)]
    with pytest.raises(UnknownDictionary, match=r"There is no dictionary at"):
        read_config(folder)
    with pytest.raises(UnknownDictionary, match="no part 'neurons:7'") as caught:
        read_config(f"{folder}#neurons:7")
    assert "neurons:0, neurons:1, neurons:2" in caught.value.remedy


def test_what_a_model_does_not_have_is_refused(model_folders, tmp_path):
    with pytest.raises(UnsupportedDictionary, match="gpt2 model has no experts"):
        read_config(f"{model_folders['gpt2']}#experts:1")
    with pytest.raises(UnsupportedDictionary, match="mixtral model has no neurons"):
        read_config(f"{model_folders['mixtral']}#neurons:1")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5"}))
    with pytest.raises(UnsupportedDictionary, match="type 't5'"):
        read_config(f"{tmp_path}#neurons:1")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(UnsupportedDictionary, match=r"neither model\.safetensors"):
        read_config(f"{tmp_path}#neurons:1")
    (tmp_path / "model.safetensors").write_bytes(b"cut short")
    with pytest.raises(DamagedDictionary):
        read_config(f"{tmp_path}#neurons:1")
