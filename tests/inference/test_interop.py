"""The same weights in other packages give the same numbers. Runs where TransformerLens and SAELens are installed."""

import pytest
import torch

from inference.activations import capture
from inference.dictionaries import load_dictionary
from inference.hook_points import names
from tests.tiny import TEXT, tiny_dictionary

pytestmark = pytest.mark.interop

LN2 = "blocks.1.ln2.hook_normalized"
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


def in_transformer_lens(model):
    """Return the model's weights in TransformerLens, unfolded."""
    lens = pytest.importorskip("transformer_lens", exc_type=ImportError)
    gated = model.family.name == "llama"
    config = lens.HookedTransformerConfig(
        n_layers=model.n_layers,
        d_model=model.d_model,
        n_heads=model.n_heads,
        d_head=model.d_head,
        d_mlp=model.d_mlp,
        d_vocab=model.d_vocab,
        n_ctx=model.context_size,
        act_fn="silu" if gated else "gelu_new",
        gated_mlp=gated,
        normalization_type="RMS" if gated else "LN",
        eps=1e-6 if gated else 1e-5,
        final_rms=gated,
        positional_embedding_type="rotary" if gated else "standard",
        rotary_dim=model.d_head if gated else None,
        rotary_adjacent_pairs=False,
        n_key_value_heads=model.module.config.num_key_value_heads if gated else None,
        use_hook_mlp_in=True,
        device="cpu",
    )
    from transformer_lens.pretrained import weight_conversions

    convert = weight_conversions.convert_llama_weights if gated else weight_conversions.convert_gpt2_weights
    hooked = lens.HookedTransformer(config)
    hooked.load_state_dict(convert(model.module, config), strict=False)
    return hooked.eval()


def test_capture_equals_transformer_lens_at_every_hook_point(model):
    hooked = in_transformer_lens(model)
    ids_bt = model.ids_bt(model.tokenize(TEXT))
    with torch.inference_mode():
        logits, cache = hooked.run_with_cache(ids_bt)
        torch.testing.assert_close(model.module(input_ids=ids_bt).logits, logits, atol=1e-4, rtol=1e-4)
    hook_names = names(model.family, model.n_layers)
    for name, x_btd in capture(model, ids_bt, hook_names).items():
        expected = cache[name].reshape(x_btd.shape)
        assert (x_btd - expected).abs().max() < 1e-4, name


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
