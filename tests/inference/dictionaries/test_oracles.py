"""Dictionaries that other packages write, loaded here, give what these packages compute.

SAELens, sparsify and dictionary_learning; packages with environments of their own are in tests/interop.
"""

import json

import pytest
import torch
from safetensors.torch import load_file

from inference.dictionaries import load_dictionary
from inference.dictionaries.formats.centring import CENTRED_SITES
from tests.inference.dictionaries.layouts import CASES, DICTIONARY_LEARNING, R1_SCALE, D, Draw, F
from tests.inference.dictionaries.set_layouts import temporal_saes

pytestmark = pytest.mark.interop

SIZES = ((24, 105), (33, 64))
both_dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
SAELENS = (
    ("standard", {}),
    ("standard", {"normalize_activations": "layer_norm"}),
    ("standard", {"normalize_activations": "constant_norm_rescale"}),
    ("standard", {"normalize_activations": "expected_average_only_in"}),
    ("standard", {"apply_b_dec_to_input": False}),
    ("gated", {}),
    ("gated", {"normalize_activations": "layer_norm"}),
    ("topk", {"k": 7}),
    ("topk", {"k": 7, "rescale_acts_by_decoder_norm": True}),
    ("abstopk", {"k": 7}),
    ("abstopk", {"k": 7, "rescale_acts_by_decoder_norm": True}),
    ("jumprelu", {}),
    ("jumprelu", {"normalize_activations": "constant_norm_rescale"}),
    ("matching_pursuit", {"residual_threshold": 0.5}),
    ("matching_pursuit", {"residual_threshold": 0.0, "max_iterations": 5, "stop_on_duplicate_support": False}),
    ("matching_pursuit", {"apply_b_dec_to_input": False}),
    ("transcoder", {}),
    ("skip_transcoder", {}),
    ("jumprelu_transcoder", {}),
    ("jumprelu_skip_transcoder", {}),
)

SPARSIFY = (
    ("topk", {}),
    ("topk", {"transcode": True}),
    ("topk", {"transcode": True, "skip_connection": True}),
    ("groupmax", {}),
)
# Publications that SAELens converts: its loader, a repository, and what its configs need to hear of the tiny sizes.
CONVERTED = {
    ("gemma_scope", "jumprelu"): ("gemma_2", "google/gemma-scope-2b-pt-res", "layer_12/width_16k/average_l0_82"),
    ("gemma_scope_2", "jump_relu"): (
        "gemma_3",
        "google/gemma-scope-2-1b-pt",
        "resid_post/layer_7_width_16k_l0_medium",
    ),
    ("goodfire", "relu"): (
        "goodfire",
        "Goodfire/Llama-3.1-8B-Instruct-SAE-l19",
        "Llama-3.1-8B-Instruct-SAE-l19.pth",
    ),
    ("goodfire", "qresearch"): (
        "deepseek_r1",
        "qresearch/DeepSeek-R1-Distill-Llama-8B-SAE-l19",
        "DeepSeek-R1-Distill-Llama-8B-SAE-l19.pt",
    ),
    ("llama_scope_r1", "jumprelu"): (
        "llama_scope_r1_distill",
        "fnlp/Llama-Scope-R1-Distill",
        "800M-Slimpajama/L0R",
    ),
    ("neel_nanda", "relu"): (
        "connor_rob_hook_z",
        "ckkissane/attn-saes-gpt2-small-all-layers",
        "gpt2-small_L5_Hcat_z.pt",
    ),
    ("qwen_scope", "topk"): ("qwen_scope", "Qwen/SAE-Res-Qwen3-1.7B-Base-W32K-L0_7", "layer3.sae.pt"),
}
# What each package has a class for, of what its layout can hold.
ORACLES = {
    "saelens": {name for name, _ in SAELENS},
    "sparsify": {name for name, _ in SPARSIFY},
    "dictionary_learning": set(DICTIONARY_LEARNING),
    **{layout: {name for of, name in CONVERTED if of == layout} for layout, _ in CONVERTED},
}


def randomize(module, seed=5):
    """Give every parameter values that a trained dictionary could have: no zero biases, no ties, no unit rows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            scale = 0.2 if parameter.ndim == 1 else max(parameter.shape) ** -0.5 * 3
            positive = "threshold" in name
            parameter.copy_(0.1 + 0.5 * noise.abs() if positive else scale * noise)
    return module


def inputs(d_in):
    return 2 * torch.randn(61, d_in, generator=torch.Generator().manual_seed(6)) + 0.5


def assert_same(dictionary, x_td, a_tf, y_to):
    """Assert that active sets are the same, and activations and outputs within 1e-5 of their size."""
    activations = dictionary.encode(x_td)
    ours_tf = activations.dense()
    assert 0 < (a_tf != 0).sum() < a_tf.numel()
    assert torch.equal(ours_tf != 0, a_tf != 0)
    chosen = list(range(0, dictionary.n_features, 13))
    for ours, theirs in (
        (ours_tf, a_tf),
        (dictionary.encode_features(x_td, chosen), a_tf[:, chosen]),
        (dictionary.decode(activations, x_td), y_to),
    ):
        assert float((ours - theirs).norm() / theirs.norm()) < 1e-5


@both_dtypes
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize(("architecture", "settings"), SAELENS, ids=lambda value: str(value))
def test_saelens(tmp_path, architecture, settings, sizes, dtype):
    pytest.importorskip("sae_lens", exc_type=ImportError)
    from sae_lens import SAE
    from sae_lens.registry import get_sae_class
    from sae_lens.saes.sae import SAEMetadata

    sae_class, config_class = get_sae_class(architecture)
    d_in, d_sae = sizes
    names = {"hook_name": "blocks.1.hook_resid_post"}
    if "transcoder" in architecture:
        settings = {"d_out": d_in - 3, "apply_b_dec_to_input": False, **settings}
        names = {"hook_name": "blocks.1.ln2.hook_normalized", "hook_name_out": "blocks.1.hook_mlp_out"}
    dtype_name = str(dtype).removeprefix("torch.")
    config = config_class(d_in=d_in, d_sae=d_sae, dtype=dtype_name, metadata=SAEMetadata(**names), **settings)
    sae = randomize(sae_class(config))
    if architecture == "matching_pursuit":
        sae.W_dec.data /= sae.W_dec.data.norm(dim=1, keepdim=True)
    sae.save_model(str(tmp_path))
    # Both compute in float32, from weights that the file may hold in less.
    sae = SAE.load_from_disk(str(tmp_path), device="cpu", dtype="float32")
    x_td = inputs(d_in)
    with torch.inference_mode():
        a_tf = sae.encode(x_td)
        y_to = sae(x_td) if "skip" in architecture else sae.decode(a_tf)
    assert_same(load_dictionary(tmp_path, device="cpu"), x_td, a_tf, y_to)


@pytest.mark.parametrize("architecture", ["batchtopk", "matryoshka_batchtopk", "topk", "jumprelu", "gated", "abstopk"])
def test_saelens_training_dictionaries_saved_for_inference(tmp_path, architecture):
    pytest.importorskip("sae_lens", exc_type=ImportError)
    from sae_lens import SAE
    from sae_lens.registry import get_sae_training_class
    from sae_lens.saes.sae import SAEMetadata

    sae_class, config_class = get_sae_training_class(architecture)
    settings = {"k": 7} if "topk" in architecture else {}
    if "matryoshka" in architecture:
        settings["matryoshka_widths"] = [20, 60, 105]
    metadata = SAEMetadata(hook_name="blocks.1.hook_resid_post")
    sae = randomize(sae_class(config_class(d_in=24, d_sae=105, metadata=metadata, **settings)))
    if "batch" in architecture:
        sae.topk_threshold.fill_(0.8)
    sae.save_inference_model(str(tmp_path))
    theirs = SAE.load_from_disk(str(tmp_path), device="cpu")
    x_td = inputs(24)
    with torch.inference_mode():
        a_tf = theirs.encode(x_td)
        y_to = theirs.decode(a_tf)
    assert_same(load_dictionary(tmp_path, device="cpu"), x_td, a_tf, y_to)


@both_dtypes
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize(("activation", "settings"), SPARSIFY, ids=str)
def test_sparsify(tmp_path, activation, settings, sizes, dtype):
    sparsify = pytest.importorskip("sparsify", exc_type=ImportError)
    from sparsify.config import SparseCoderConfig

    d_in, n_latents = sizes
    k = 7 if n_latents % 7 == 0 else 8
    config = SparseCoderConfig(num_latents=n_latents, k=k, activation=activation, **settings)
    coder = randomize(sparsify.SparseCoder(d_in, config)).to(dtype)
    path = tmp_path / "layers.2"
    coder.save_to_disk(path)
    coder = coder.float()
    x_td = inputs(d_in)
    with torch.inference_mode():
        values_tk, indices_tk, _ = coder.encode(x_td)
        a_tf = torch.zeros(len(x_td), n_latents).scatter(1, indices_tk, values_tk)
        y_to = coder(x_td).sae_out
    assert_same(load_dictionary(path, device="cpu"), x_td, a_tf, y_to)


@both_dtypes
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("name", DICTIONARY_LEARNING)
def test_dictionary_learning(tmp_path, name, sizes, dtype):
    pytest.importorskip("dictionary_learning", exc_type=ImportError)
    from dictionary_learning import dictionary
    from dictionary_learning.trainers import batch_top_k, matryoshka_batch_top_k, top_k

    d_in, n_features = sizes
    modules = {
        "AutoEncoderTopK": top_k,
        "BatchTopKSAE": batch_top_k,
        "MatryoshkaBatchTopKSAE": matryoshka_batch_top_k,
    }
    settings = {"k": 7} if name in modules else {}
    if name == "MatryoshkaBatchTopKSAE":
        settings["group_sizes"] = [20, n_features - 20]
    theirs = randomize(getattr(modules.get(name, dictionary), name)(d_in, n_features, **settings))
    if name in modules:
        theirs.threshold.fill_(0.8)
    # As its training loop saves them.
    torch.save(theirs.to(dtype).state_dict(), tmp_path / "ae.pt")
    theirs = theirs.float()
    trainer = {"dict_class": name, "submodule_name": "resid_post_layer_1"}
    (tmp_path / "config.json").write_text(json.dumps({"trainer": trainer}))
    x_td = inputs(d_in)
    with torch.inference_mode():
        a_tf = theirs.encode(x_td)
        y_to = theirs.decode(a_tf)
    assert_same(load_dictionary(tmp_path, device="cpu"), x_td, a_tf, y_to)


@pytest.mark.parametrize(("layout", "name"), CONVERTED)
def test_publications_that_saelens_converts(tmp_path, monkeypatch, layout, name):
    pytest.importorskip("sae_lens", exc_type=ImportError)
    from sae_lens import SAE
    from sae_lens.loading import pretrained_sae_loaders as loaders

    loader, repository, inside = CONVERTED[layout, name]
    written = CASES[layout, name](tmp_path, Draw(torch.Generator().manual_seed(3)))

    def download(repo_id, filename, **_):
        """Find the file that the hub would have sent."""
        return str(next(tmp_path.rglob(filename.rpartition("/")[2])))

    def shapes(repo_id, filename):
        """Read the header that the hub would have sent."""
        return {key: list(tensor.shape) for key, tensor in load_file(download(repo_id, filename)).items()}

    monkeypatch.setattr(loaders, "hf_hub_download", download)
    monkeypatch.setattr(loaders, "get_safetensors_tensor_shapes", shapes)
    convert = loaders.NAMED_PRETRAINED_SAE_LOADERS[loader]
    # Heads lie side by side here, as they do in transformers.
    told = {"d_in": D, "d_sae": F, "device": "cpu", "dtype": "float32", "reshape_activations": "none"}
    cfg, tensors, _ = convert(repository, inside, cfg_overrides=told)
    theirs = SAE.from_dict(loaders.handle_config_defaulting(cfg))
    theirs.process_state_dict_for_loading(tensors)
    theirs.load_state_dict(tensors)
    if layout == "llama_scope_r1":
        # As SAE.from_pretrained does with the factor of its catalogue.
        theirs.fold_activation_norm_scaling_factor(R1_SCALE)
    x_td = inputs(D)
    with torch.inference_mode():
        a_tf = theirs.encode(x_td)
        y_to = theirs.decode(a_tf)
    dictionary = load_dictionary(written.path, device="cpu")
    assert_same(dictionary, x_td, a_tf, y_to)
    assert dictionary.hook_in == theirs.cfg.metadata.hook_name


def assert_same_sequences(dictionary, theirs, x_td, lengths):
    """Assert that a temporal SAE gives what SAELens gives for each sequence, its predictions in reconstructions."""
    with torch.inference_mode():
        a_tf = torch.cat([theirs.encode(x_sd[None])[0] for x_sd in x_td.split(lengths)])
        y_td = torch.cat([theirs(x_sd[None])[0] for x_sd in x_td.split(lengths)])
    activations = dictionary.encode(x_td, lengths)
    ours_tf = activations.dense()
    assert 0 < (a_tf != 0).sum() < a_tf.numel()
    assert torch.equal(ours_tf != 0, a_tf != 0)
    assert float((ours_tf - a_tf).norm() / a_tf.norm()) < 1e-5
    y_hat_td = dictionary.decode(activations, x_td, lengths)
    assert float((y_hat_td - y_td).norm() / y_td.norm()) < 1e-5


@both_dtypes
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize(
    "settings",
    [
        {"kval_topk": 7},
        {"sae_diff_type": "relu", "n_attn_layers": 2},
        {"kval_topk": 7, "n_heads": 5, "apply_b_dec_to_input": False},
        {"kval_topk": 7, "normalize_activations": "layer_norm"},
    ],
    ids=str,
)
def test_saelens_temporal(tmp_path, settings, tied, dtype):
    pytest.importorskip("sae_lens", exc_type=ImportError)
    from sae_lens import SAE
    from sae_lens.registry import get_sae_class
    from sae_lens.saes.sae import SAEMetadata

    sae_class, config_class = get_sae_class("temporal")
    settings = {"n_heads": 3, "normalize_activations": "constant_scalar_rescale", **settings}
    config = config_class(
        d_in=24,
        d_sae=105,
        bottleneck_factor=7,
        tied_weights=tied,
        activation_normalization_factor=0.4,
        dtype=str(dtype).removeprefix("torch."),
        metadata=SAEMetadata(hook_name="blocks.1.hook_resid_post"),
        **settings,
    )
    sae = randomize(sae_class(config))
    with torch.no_grad():
        for layer in sae.attn_layers:
            # Codes are small, and a prediction should not be made of biases alone.
            layer.v_ctx.weight *= 30
    sae.save_model(str(tmp_path))
    sae = SAE.load_from_disk(str(tmp_path), device="cpu", dtype="float32")
    assert_same_sequences(load_dictionary(tmp_path, device="cpu"), sae, inputs(24), [20, 41])


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_temporal_saes_temporal(tmp_path, monkeypatch, tied):
    pytest.importorskip("sae_lens", exc_type=ImportError)
    from sae_lens import SAE
    from sae_lens.loading import pretrained_sae_loaders as loaders

    written = temporal_saes(tmp_path, Draw(torch.Generator().manual_seed(3)), "temporal", tied=tied)

    def download(repo_id, filename, **_):
        return str(tmp_path / filename)

    monkeypatch.setattr(loaders, "hf_hub_download", download)
    cfg, tensors, _ = loaders.NAMED_PRETRAINED_SAE_LOADERS["temporal"]("canrager/temporalSAEs", "layer_12/temporal")
    theirs = SAE.from_dict(loaders.handle_config_defaulting(cfg))
    theirs.process_state_dict_for_loading(tensors)
    theirs.load_state_dict(tensors)
    dictionary = load_dictionary(written.path, device="cpu")
    assert_same_sequences(dictionary, theirs, inputs(D), [61])
    assert dictionary.hook_in == theirs.cfg.metadata.hook_name


def test_centred_sites_are_those_of_the_plain_model_less_their_mean():
    lens = pytest.importorskip("transformer_lens", exc_type=ImportError)
    sizes = {"n_layers": 2, "d_model": 24, "n_heads": 4, "d_head": 6, "n_ctx": 16, "d_vocab": 50}
    config = lens.HookedTransformerConfig(**sizes, act_fn="gelu", normalization_type="LN", device="cpu")
    plain, centred = randomize(lens.HookedTransformer(config)), lens.HookedTransformer(config)
    others = dict.fromkeys(("fold_ln", "center_unembed", "fold_value_biases"), False)
    centred.load_and_process_state_dict(plain.state_dict(), center_writing_weights=True, **others)
    ids_bt = torch.arange(16)[None]
    with torch.inference_mode():
        (_, of_plain), (_, of_centred) = plain.run_with_cache(ids_bt), centred.run_with_cache(ids_bt)
    for site in CENTRED_SITES:
        name = site if site == "hook_embed" else f"blocks.1.{site}"
        x_btd = of_plain[name]
        torch.testing.assert_close(of_centred[name], x_btd - x_btd.mean(-1, keepdim=True), atol=1e-5, rtol=1e-4)
