"""The same weights in other packages give the same numbers. Runs where TransformerLens and SAELens are installed."""

import pytest
import torch

from inference.activations import capture, spliced
from inference.dictionaries import load_dictionary
from inference.hook_points import FAMILIES, names
from tests.inference.lens import NOT_IN_LENS, in_transformer_lens
from tests.tiny import TEXT, tiny_dictionary

pytestmark = pytest.mark.interop

LN2 = "blocks.1.ln2.hook_normalized"
# Sites that HookedTransformer does not show; test_families compares them with the modules themselves.
OURS = {"mlp.hook_in", "attn.hook_out", "mlp.hook_out"}
VARIANTS = {
    "standard": {"architecture": "standard"},
    "topk": {"architecture": "topk"},
    "topk-rescaled": {"architecture": "topk", "rescale_acts_by_decoder_norm": True},
    "jumprelu": {"architecture": "jumprelu"},
    "no-input-bias": {"architecture": "jumprelu", "apply_b_dec_to_input": False},
    "layer-norm": {"architecture": "standard", "normalize_activations": "layer_norm"},
    "norm-rescale": {"architecture": "topk", "normalize_activations": "constant_norm_rescale"},
    "average-norm": {"architecture": "standard", "normalize_activations": "expected_average_only_in"},
    "transcoder": {"architecture": "transcoder", "hook_name": LN2, "d_out": 24},
    "skip-transcoder": {"architecture": "skip_transcoder", "hook_name": LN2},
    "jumprelu-transcoder": {"architecture": "jumprelu_transcoder", "hook_name": LN2, "d_out": 24},
    "jumprelu-skip-transcoder": {"architecture": "jumprelu_skip_transcoder", "hook_name": LN2},
    "hook-z": {"architecture": "topk", "hook_name": "blocks.1.attn.hook_z"},
}


@pytest.fixture
def folder(model, model_folders, tmp_path_factory):
    """The model's folder under another name: TransformerLens takes what a path says for the name of a known model."""
    link = tmp_path_factory.mktemp("oracle") / "model"
    link.symlink_to(model_folders[model.family.name])
    return link


@pytest.mark.parametrize("model", sorted(FAMILIES.keys() - NOT_IN_LENS), indirect=True)
def test_capture_equals_transformer_lens_at_every_hook_point(model, folder):
    hooked = in_transformer_lens(model, folder)
    ids_bt = model.ids_bt(model.tokenize(TEXT))
    with torch.inference_mode():
        logits, cache = hooked.run_with_cache(ids_bt)
        if model.family.causal:
            torch.testing.assert_close(model.module(input_ids=ids_bt).logits, logits, atol=1e-4, rtol=1e-4)
    captured = capture(model, ids_bt, names(model.family, model.n_layers))
    theirs = {name: "embed.hook_embed" if "embed" in name and not model.family.causal else name for name in captured}
    compared = {name for name in captured if theirs[name] in cache}
    for name in compared:
        expected = cache[theirs[name]].reshape(captured[name].shape)
        assert (captured[name] - expected).abs().max() < 1e-4, name
    missing = {name.split(".", 2)[-1] for name in captured.keys() - compared}
    assert missing <= OURS, missing


@pytest.mark.parametrize("hook_name", ["blocks.1.hook_resid_post", "blocks.1.hook_mlp_out", "blocks.0.attn.hook_z"])
@pytest.mark.parametrize("model", sorted(FAMILIES.keys() - NOT_IN_LENS - {"bert"}), indirect=True)
def test_splices_equal_sae_lens(model, folder, hook_name, tmp_path):
    sae_lens = pytest.importorskip("sae_lens", exc_type=ImportError)
    hooked = in_transformer_lens(model, folder, sae_lens.HookedSAETransformer)
    saved = tiny_dictionary(tmp_path, "jumprelu", hook_name, d_in=model.width(hook_name))
    ours, theirs = load_dictionary(saved, device="cpu"), sae_lens.SAE.load_from_disk(str(saved), device="cpu")
    theirs.cfg.metadata.hook_name = hook_name
    ids_bt = model.ids_bt(model.tokenize(TEXT))
    with torch.inference_mode():
        clean = model.module(input_ids=ids_bt).logits
        expected = hooked.run_with_saes(ids_bt, saes=[theirs])
        with spliced(model, {hook_name: lambda x_btd: ours.reconstruct(x_btd[0])[None]}):
            changed = model.module(input_ids=ids_bt).logits
    assert not torch.allclose(changed, clean, atol=1e-2)
    torch.testing.assert_close(changed, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_dictionaries_equal_sae_lens(tmp_path, variant):
    sae_lens = pytest.importorskip("sae_lens", exc_type=ImportError)
    folder = tiny_dictionary(tmp_path, **variant)
    ours = load_dictionary(folder, device="cpu")
    theirs = sae_lens.SAE.load_from_disk(str(folder), device="cpu")
    x_td = 2 * torch.randn(50, 32, generator=torch.Generator().manual_seed(2)) + 0.5
    shaped = x_td.view(50, 4, 8) if variant.get("hook_name", "").endswith("hook_z") else x_td
    with torch.inference_mode():
        a_tf = theirs.encode(shaped)
        if "skip" in variant["architecture"]:
            y_to = theirs(shaped)
        else:
            y_to = theirs.decode(a_tf).reshape(50, -1)
    torch.testing.assert_close(ours.encode(x_td).dense(), a_tf, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(ours.reconstruct(x_td), y_to, atol=1e-5, rtol=1e-4)
