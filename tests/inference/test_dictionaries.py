import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from inference.activations import capture
from inference.dictionaries import ModelShape, check_fit, load_dictionary, read_config
from inference.dictionaries.config import (
    DamagedDictionary,
    DictionaryDoesNotFit,
    UnknownDictionary,
    UnsupportedDictionary,
)
from inference.dictionaries.dictionary import UnknownFeature
from inference.dictionaries.sparse import SparseActivations
from inference.digests import file_sha256
from inference.hook_points import UnknownHookPoint
from tests.tiny import TEXT, tiny_dictionary

LN2 = "blocks.1.ln2.hook_normalized"
# Every architecture and setting that changes what a dictionary computes.
VARIANTS = {
    "relu": {"architecture": "standard"},
    "topk": {"architecture": "topk"},
    "topk-k1": {"architecture": "topk", "k": 1},
    "topk-all": {"architecture": "topk", "k": 128},
    "topk-rescaled": {"architecture": "topk", "rescale_acts_by_decoder_norm": True},
    "jumprelu": {"architecture": "jumprelu"},
    "no-input-bias": {"architecture": "jumprelu", "apply_b_dec_to_input": False},
    "layer-norm": {"architecture": "standard", "normalize_activations": "layer_norm"},
    "norm-rescale": {"architecture": "topk", "normalize_activations": "constant_norm_rescale"},
    "transcoder": {"architecture": "transcoder", "hook_name": LN2, "d_out": 24},
    "jumprelu-transcoder": {"architecture": "jumprelu_transcoder", "hook_name": LN2},
    "topk-transcoder": {"architecture": "topk", "hook_name": LN2, "hook_name_out": "blocks.1.hook_mlp_out"},
    "skip-transcoder": {"architecture": "skip_transcoder", "hook_name": LN2, "d_out": 24},
    "half-precision": {"architecture": "jumprelu", "dtype": torch.bfloat16},
}


@pytest.fixture(params=VARIANTS.values(), ids=VARIANTS)
def dictionary(request, tmp_path):
    return load_dictionary(tiny_dictionary(tmp_path, **request.param), device="cpu")


@pytest.fixture
def x_td():
    return 2 * torch.randn(37, 32, generator=torch.Generator().manual_seed(1)) + 0.5


def formula(dictionary, x_td):
    """Return a_tf and y_to as the SAELens documentation defines them, dense and in float64."""
    config = dictionary.config
    stored = {name: tensor.double() for name, tensor in load_file(config.weights).items()}
    x = x_td.double()
    mean, deviation = x.mean(1, keepdim=True), x.std(1, keepdim=True)
    length = x.norm(dim=1, keepdim=True) / config.d_in**0.5
    if config.normalize == "layer_norm":
        x = (x - mean) / (deviation + 1e-5)
    if config.normalize == "constant_norm_rescale":
        x = x / length
    norm_f = stored["W_dec"].norm(dim=1) if config.scale_by_decoder_norm else 1.0
    if config.subtract_output_bias:
        x = x - stored["b_dec"]
    h = (x @ stored["W_enc"] + stored["b_enc"]) * norm_f
    if config.architecture == "topk":
        values, indices = h.topk(config.k, dim=1)
        a = torch.zeros_like(h).scatter(1, indices, values.relu())
    elif config.architecture == "jumprelu":
        a = h.relu() * (h > stored["threshold"])
    else:
        a = h.relu()
    y = (a / norm_f) @ stored["W_dec"] + stored["b_dec"]
    if config.normalize == "layer_norm":
        y = y * deviation + mean
    if config.normalize == "constant_norm_rescale":
        y = y * length
    if "W_skip" in stored:
        y = y + x_td.double() @ stored["W_skip"].T
    return a.float(), y.float()


def test_encode_and_decode_follow_the_formulas(dictionary, x_td):
    a_tf, y_to = formula(dictionary, x_td)
    activations = dictionary.encode(x_td)
    torch.testing.assert_close(activations.dense(), a_tf, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(dictionary.decode(activations, x_td), y_to, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(dictionary.reconstruct(x_td) + dictionary.error(x_td, y_to), y_to)


def test_chosen_features_equal_the_full_encode(dictionary, x_td):
    a_tf = dictionary.encode(x_td).dense()
    for indices in ([5, 127, 3, 3, 0], range(dictionary.n_features), *([index] for index in range(0, 128, 5)), []):
        chosen_tm = dictionary.encode_features(x_td, indices)
        torch.testing.assert_close(chosen_tm, a_tf[:, list(indices)], atol=1e-6, rtol=1e-5)


def test_a_token_alone_equals_a_token_among_many(dictionary, x_td):
    alone = SparseActivations.concatenate([dictionary.encode(x_1d) for x_1d in x_td.split(1)])
    torch.testing.assert_close(alone.dense(), dictionary.encode(x_td).dense(), atol=1e-6, rtol=1e-5)


def test_pre_activations_are_what_fires(dictionary, x_td):
    a_tf = dictionary.encode(x_td).dense()
    h_tf = dictionary.pre_activations(x_td)
    torch.testing.assert_close(h_tf[a_tf > 0], a_tf[a_tf > 0], atol=1e-6, rtol=1e-5)


def test_directions_are_what_decode_adds(dictionary, x_td):
    assert dictionary.decoder_directions([2, 7]).shape == (2, dictionary.d_out)
    assert dictionary.encoder_directions([2, 7]).shape == (2, dictionary.d_in)
    one_1 = torch.tensor([1.0])
    only = SparseActivations(torch.tensor([0, 1]), torch.tensor([7]), one_1, dictionary.n_features)
    none = SparseActivations(
        torch.tensor([0, 0]), torch.tensor([], dtype=torch.int64), one_1[:0], dictionary.n_features
    )
    if dictionary.config.normalize == "none":
        added = dictionary.decode(only, x_td[:1]) - dictionary.decode(none, x_td[:1])
        torch.testing.assert_close(added, dictionary.decoder_directions([7]), atol=1e-6, rtol=1e-5)


def test_no_tokens_give_no_activations(dictionary):
    activations = dictionary.encode(torch.zeros(0, 32))
    assert activations.dense().shape == (0, dictionary.n_features)
    assert dictionary.decode(activations, torch.zeros(0, 32)).shape == (0, dictionary.d_out)


def test_known_scores_decide_a_competition(dictionary, x_td):
    activations = dictionary.encode(x_td)
    kth_t = dictionary.kth_scores(activations)
    if kth_t is None:
        assert dictionary.config.architecture != "topk"
        return
    every = torch.arange(dictionary.n_features)
    torch.testing.assert_close(dictionary.encode_features(x_td, every, kth_t=kth_t), activations.dense())


def test_encode_works_in_chunks(dictionary, x_td, monkeypatch):
    whole = dictionary.encode(x_td)
    monkeypatch.setattr("kernels.rows.CHUNK_ELEMENTS", 1000)
    chunked = dictionary.encode(x_td)
    assert torch.equal(chunked.indptr, whole.indptr)
    torch.testing.assert_close(chunked.dense(), whole.dense(), atol=1e-6, rtol=1e-5)


def test_a_transcoder_reads_and_writes_at_its_two_points(models, dictionaries):
    model, transcoder = models["gpt2"], dictionaries["transcoder"]
    assert (transcoder.hook_in, transcoder.hook_out) == (LN2, "blocks.1.hook_mlp_out")
    assert transcoder.config.is_transcoder
    x = capture(model, model.ids_bt(model.tokenize(TEXT)), [transcoder.hook_in, transcoder.hook_out])
    x_td, y_to = x[transcoder.hook_in][0], x[transcoder.hook_out][0]
    torch.testing.assert_close(transcoder.reconstruct(x_td) + transcoder.error(x_td, y_to), y_to)


def test_columns_are_chosen_from_rows_of_any_length(dictionaries, x_td):
    activations = dictionaries["jumprelu"].encode(x_td)
    indices_m = torch.tensor([9, 9, 100, 2])
    assert torch.equal(activations.columns(indices_m), activations.dense()[:, indices_m])
    indptr, indices_n, values_n = activations.to_csr()
    assert indptr[-1] == len(indices_n) == len(values_n)
    assert torch.equal(activations.tokens_n.bincount(minlength=len(x_td)), activations.counts_t)


@pytest.mark.parametrize("index", [-1, 128])
def test_features_that_are_not_there_are_refused(dictionaries, x_td, index):
    with pytest.raises(UnknownFeature, match="0 to 127"):
        dictionaries["relu"].encode_features(x_td, [index])


def test_read_config_knows_the_facts_without_torch(tmp_path):
    folder = tiny_dictionary(tmp_path, "topk", k=5)
    config = read_config(folder)
    assert (config.architecture, config.k, config.d_in, config.n_features) == ("topk", 5, 32, 128)
    assert (config.hook_in, config.hook_out, config.format) == ("blocks.1.hook_resid_post",) * 2 + ("saelens",)
    assert config.sha256 == file_sha256(folder / "sae_weights.safetensors")
    assert read_config(folder / "cfg.json") == config
    code = (
        "import sys; from inference.dictionaries import read_config; "
        "read_config(sys.argv[1]); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(folder)], check=False).returncode == 0


def test_read_config_takes_flat_configs_and_heads(tmp_path):
    folder = tiny_dictionary(tmp_path, "standard", "blocks.1.attn.hook_z", d_in=8)
    cfg = json.loads((folder / "cfg.json").read_text())
    metadata = cfg.pop("metadata") | {"hook_head_index": 2, "activation_fn_str": "relu", "normalize_activations": None}
    (folder / "cfg.json").write_text(json.dumps(cfg | metadata))
    assert read_config(folder).hook_in == "blocks.1.attn.hook_z.2"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"architecture": "hypernetwork"}, "jumprelu_transcoder"),
        ({"normalize_activations": "whitening"}, "layer_norm"),
        ({"architecture": ["topk"]}, "standard"),
    ],
    ids=["architecture", "normalization", "not-a-name"],
)
def test_unsupported_dictionaries_name_what_is_supported(tmp_path, change, named):
    with pytest.raises(UnsupportedDictionary, match=named):
        read_config(_changed(tmp_path, change))


def _changed(tmp_path, change):
    folder = tiny_dictionary(tmp_path)
    cfg = json.loads((folder / "cfg.json").read_text())
    (folder / "cfg.json").write_text(json.dumps(cfg | change))
    return folder


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"d_in": 31}, "W_enc"),
        ({"d_sae": 0}, "d_sae"),
        ({"d_sae": "many"}, "d_sae"),
        ({"k": 129}, "k is 129"),
        ({"architecture": "jumprelu"}, "threshold"),
        ({"metadata": {}}, "hook_name"),
        ({"architecture": "transcoder"}, "hook_name_out"),
    ],
    ids=["width", "zero", "words", "k", "threshold", "hook", "transcoder"],
)
def test_configs_that_contradict_their_weights_are_refused(tmp_path, change, named):
    with pytest.raises(DamagedDictionary, match=named):
        read_config(_changed(tmp_path, change))


@pytest.mark.parametrize("damage", ["truncated", "header", "not-json", "empty", "missing"])
def test_damaged_weights_name_their_file(tmp_path, damage):
    folder = tiny_dictionary(tmp_path)
    path = folder / "sae_weights.safetensors"
    data = path.read_bytes()
    damaged = {
        "truncated": data[:-1],
        "header": data[:20],
        "not-json": b"\x10" + bytes(7) + b"x" * 16,
        "empty": b"",
    }
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(damaged[damage])
    with pytest.raises(DamagedDictionary, match="sae_weights"):
        load_dictionary(folder)


@pytest.mark.parametrize("value", [torch.nan, torch.inf], ids=["nan", "inf"])
@pytest.mark.parametrize("tensor", ["W_enc", "b_dec"])
def test_weights_that_are_not_finite_name_their_tensor(tmp_path, tensor, value):
    folder = tiny_dictionary(tmp_path)
    tensors = load_file(folder / "sae_weights.safetensors")
    tensors[tensor].view(-1)[3] = value
    save_file(tensors, folder / "sae_weights.safetensors")
    with pytest.raises(DamagedDictionary, match=tensor) as caught:
        load_dictionary(folder, device="cpu")
    assert caught.value.details["tensor"] == tensor


def test_a_folder_without_dictionary_names_the_layouts(tmp_path):
    with pytest.raises(UnknownDictionary, match=r"sae_weights\.safetensors"):
        read_config(tmp_path)


def test_a_dictionary_that_does_not_fit_names_both_widths(dictionaries):
    shape = ModelShape(name="small", family="gpt2", n_layers=3, d_model=32, d_heads=32)
    for dictionary in dictionaries.values():
        check_fit(dictionary.config, shape)
    with pytest.raises(DictionaryDoesNotFit, match=r"32 wide .* small is 48 wide") as caught:
        check_fit(dictionaries["topk"].config, replace(shape, d_model=48))
    assert (caught.value.details["dictionary_width"], caught.value.details["model_width"]) == (32, 48)
    with pytest.raises(UnknownHookPoint):
        check_fit(dictionaries["jumprelu"].config, replace(shape, n_layers=2))
