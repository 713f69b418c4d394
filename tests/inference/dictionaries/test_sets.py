"""The parts of a set add up to what its package computes from all of them; a group of layers shares one dictionary."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from inference.dictionaries import find_dictionaries, load_dictionary, read_config
from inference.dictionaries.config import SeveralDictionaries, UnsupportedDictionary
from inference.hook_points import parts
from tests.inference.dictionaries import layouts, set_layouts
from tests.inference.dictionaries.set_layouts import LAYERS, D, F
from tests.inference.dictionaries.writing import Draw, jump, write_json

T = 40


@pytest.fixture
def draw():
    return Draw(torch.Generator().manual_seed(3))


@pytest.fixture
def x_ltd():
    return 2 * torch.randn(LAYERS, T, D, generator=torch.Generator().manual_seed(4)) + 0.5


def summed(folder, x_ltd):
    """Return y_ltd: what all parts write at each layer's hook point, added up."""
    total = {}
    for layer in range(LAYERS):
        dictionary = load_dictionary(f"{folder}#{layer}", device="cpu")
        assert dictionary.config.is_summand and not dictionary.config.reconstructs
        points = parts(dictionary.hook_out)
        written = dictionary.reconstruct(x_ltd[layer]).chunk(len(points), dim=1)
        for point, y_td in zip(points, written, strict=True):
            total[point] = total.get(point, 0) + y_td.double()
    assert len(total) == LAYERS
    return torch.stack([total[point] for point in sorted(total, key=lambda name: int(name.split(".")[1]))])


def assert_close(ours, expected):
    assert float((ours - expected).norm() / expected.norm()) < 1e-5


@pytest.mark.parametrize("name", ["relu", "jump_relu"])
def test_layers_of_circuit_tracer_add_up(tmp_path, draw, x_ltd, name):
    set_layouts.circuit_tracer_clt(tmp_path, draw, name)
    w = {}
    for layer in range(LAYERS):
        for kind in ("enc", "dec"):
            stored = load_file(tmp_path / f"W_{kind}_{layer}.safetensors")
            w |= {key: tensor.double() for key, tensor in stored.items()}
    expected = torch.stack([w[f"b_dec_{layer}"].expand(T, -1) for layer in range(LAYERS)]).clone()
    for source in range(LAYERS):
        h_tf = x_ltd[source].double() @ w[f"W_enc_{source}"].T + w[f"b_enc_{source}"]
        a_tf = h_tf.relu() if name == "relu" else h_tf * (h_tf > w[f"threshold_{source}"])
        for target in range(source, LAYERS):
            expected[target] += a_tf @ w[f"W_dec_{source}"][:, target - source]
    assert_close(summed(tmp_path, x_ltd), expected)


@pytest.mark.parametrize("relative", [False, True], ids=["absolute", "relative"])
@pytest.mark.parametrize("name", ["clt", "crosscoder"])
def test_layers_of_gemma_scope_2_add_up(tmp_path, draw, x_ltd, name, relative):
    written = set_layouts.gemma_scope_2_layers(tmp_path, draw, name, relative=relative)
    folder = Path(str(written.path).partition("#")[0])
    expected = torch.zeros(LAYERS, T, D).double()
    for source in range(LAYERS):
        stored = load_file(folder / f"params_layer_{source}.safetensors")
        w = {key: tensor.double() for key, tensor in stored.items()}
        x_td = x_ltd[source].double()
        a_tf = jump(x_td @ w["w_enc"] + w["b_enc"], w["threshold"])
        for target in range(source, LAYERS):
            expected[target] += a_tf @ w["w_dec"][:, target - source if relative else target]
        expected[source] += w["b_dec"] + (x_td @ w["affine_skip_connection"] if name == "clt" else 0)
    assert_close(summed(folder, x_ltd), expected)


@pytest.mark.parametrize("tying", ["none", "per_source", "per_target"])
def test_layers_of_crosslayer_coding_add_up(tmp_path, draw, x_ltd, tying):
    set_layouts.decode_clt(tmp_path, draw, "jumprelu", tying=tying, skip=True)
    w = {key: tensor.double() for key, tensor in load_file(tmp_path / "model.safetensors").items()}
    acts = [
        jump(
            x_ltd[layer].double() @ w[f"encoder_module.encoders.{layer}.weight"].T
            + w[f"encoder_module.encoders.{layer}.bias_param"],
            w["theta_manager.log_threshold"][layer].exp(),
        )
        for layer in range(LAYERS)
    ]

    def decoded(a_tf, key):
        stem = f"decoder_module.decoders.{key}"
        return a_tf @ w[f"{stem}.weight"].T + w[f"{stem}.bias_param"]

    def skipped(layer, key):
        return x_ltd[layer].double() @ w[f"decoder_module.skip_weights.{key}"].T

    expected = []
    for target in range(LAYERS):
        sources = range(target + 1)
        if tying == "per_target":
            y_td = decoded(sum(acts[source] for source in sources), target)
        else:
            names = {"none": "{}->{}", "per_source": "{0}"}[tying]
            y_td = sum(decoded(acts[source], names.format(source, target)) for source in sources)
        if tying == "none":
            y_td = y_td + sum(skipped(source, f"{source}->{target}") for source in sources)
        else:
            y_td = y_td + skipped(target, target)
        expected.append(y_td)
    assert_close(summed(tmp_path, x_ltd), torch.stack(expected))


def test_a_group_of_layers_shares_one_dictionary(tmp_path, draw):
    written = layouts.saelens(tmp_path, draw, "standard")
    points = [f"blocks.{layer}.hook_resid_post" for layer in (3, 4, 5)]
    write_json(written.path / "facet.json", {"hook_points": points})
    with pytest.raises(SeveralDictionaries):
        read_config(written.path)
    assert [str(path).rpartition("#")[2] for path in find_dictionaries(tmp_path)] == points
    group = [load_dictionary(f"{written.path}#{point}", device="cpu") for point in points]
    assert [dictionary.hook_in for dictionary in group] == [dictionary.hook_out for dictionary in group] == points
    assert read_config(group[1].config.path) == group[1].config
    x_td = torch.randn(T, D)
    a_tf = written.encode(x_td.double())
    for dictionary in group:
        assert torch.equal(dictionary.encode(x_td).dense() != 0, a_tf != 0)
        assert dictionary.config.reconstructs
    assert len({dictionary.config.sha256 for dictionary in group}) == 1


def test_layers_of_clt_training_are_refused_rather_than_misread(tmp_path, draw):
    written = layouts.sparsify(tmp_path, draw, "topk", transcode=True)
    path = written.path / "cfg.json"
    write_json(path, json.loads(path.read_text()) | {"n_targets": 3, "coalesce_topk": "concat"})
    with pytest.raises(UnsupportedDictionary, match="clt-training"):
        read_config(written.path)


def test_every_feature_of_a_part_is_read(tmp_path, draw):
    set_layouts.circuit_tracer_clt(tmp_path, draw, "relu")
    configs = [read_config(f"{tmp_path}#{layer}") for layer in range(LAYERS)]
    assert [config.n_features for config in configs] == [F] * LAYERS
    assert [config.d_out for config in configs] == [17 * (LAYERS - layer) for layer in range(LAYERS)]
    # Each has a digest of its own: that of its two files.
    assert len({config.sha256 for config in configs}) == LAYERS
