"""Models in TransformerLens with the weights of Facet's, nothing folded or centred: the oracle for hook points."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from inference.language_models import LanguageModel

# Families that TransformerLens' HookedTransformer or HookedEncoder cannot load; tests in test_families stand in.
NOT_IN_LENS = {"qwen3_moe", "gemma3"}
# Configurations that TransformerLens makes up from the names of published models, or cannot read in transformers 5.
_RMS = {
    "normalization_type": "RMS",
    "final_rms": True,
    "gated_mlp": True,
    "positional_embedding_type": "rotary",
    "eps": 1e-5,
}
_GEMMA = _RMS | {"eps": 1e-6, "act_fn": "gelu_pytorch_tanh", "rotary_base": 10_000}
_TWO_NORMS = {
    "use_normalization_before_and_after": True,
    "use_local_attn": True,
    "window_size": 16,
    "attn_types": ["local", "global", "local"],
    "attn_scale": 12**0.5,
}
BY_HAND: dict[str, dict[str, Any]] = {
    "gpt2": {"normalization_type": "LN", "eps": 1e-5, "act_fn": "gelu_new"},
    "phi": {
        "normalization_type": "LN",
        "eps": 1e-5,
        "act_fn": "gelu_new",
        "positional_embedding_type": "rotary",
        "rotary_dim": 4,
        "parallel_attn_mlp": True,
    },
    "olmo": _RMS | {"normalization_type": "LN", "final_rms": False, "act_fn": "silu"},
    "olmo2": _RMS | {"act_fn": "silu"},
    "gemma": _GEMMA,
    "gemma2": _GEMMA | _TWO_NORMS | {"attn_scores_soft_cap": 50.0, "output_logits_soft_cap": 30.0},
    "gemma3_text": _GEMMA | _TWO_NORMS | {"use_qk_norm": True, "rotary_base": 1_000_000, "rotary_base_local": 10_000},
}


def in_transformer_lens(model: LanguageModel, folder: Path, kind: type | None = None) -> Any:
    """Return the model of a folder as TransformerLens runs it, as a `kind` of HookedTransformer."""
    lens = pytest.importorskip("transformer_lens", exc_type=ImportError)
    if not model.family.causal:
        return _encoder(lens, folder)
    from transformer_lens import loading_from_pretrained as loading

    family = model.family.name
    if family in BY_HAND:
        n_key_value_heads = getattr(model.config, "num_key_value_heads", model.n_heads)
        config = lens.HookedTransformerConfig(
            n_layers=model.n_layers,
            d_model=model.d_model,
            n_heads=model.n_heads,
            n_key_value_heads=n_key_value_heads if n_key_value_heads != model.n_heads else None,
            d_head=model.d_head,
            d_mlp=model.d_mlp,
            d_vocab=model.d_vocab,
            n_ctx=model.context_size,
            original_architecture=model.module.config.architectures[0],
            **BY_HAND[family],
        )
    else:
        config = loading.get_pretrained_model_config(str(folder), device="cpu")
    config.device, config.use_hook_mlp_in = "cpu", True
    weights = loading.get_pretrained_state_dict(str(folder), config, hf_model=model.module)
    hooked = (kind or lens.HookedTransformer)(config)
    hooked.load_and_process_state_dict(
        weights,
        fold_ln=False,
        center_writing_weights=False,
        center_unembed=False,
        fold_value_biases=False,
        refactor_factored_attn_matrices=False,
    )
    return hooked.eval()


def _encoder(lens: Any, folder: Path) -> Any:
    from transformer_lens.pretrained.weight_conversions import convert_bert_weights
    from transformers import BertForPreTraining

    module = BertForPreTraining.from_pretrained(folder).eval()
    hf = module.config
    config = lens.HookedTransformerConfig(
        n_layers=hf.num_hidden_layers,
        d_model=hf.hidden_size,
        n_heads=hf.num_attention_heads,
        d_head=hf.hidden_size // hf.num_attention_heads,
        d_mlp=hf.intermediate_size,
        d_vocab=hf.vocab_size,
        n_ctx=hf.max_position_embeddings,
        eps=hf.layer_norm_eps,
        act_fn="gelu",
        attention_dir="bidirectional",
        normalization_type="LN",
        device="cpu",
    )
    encoder = lens.HookedEncoder(config)
    encoder.load_state_dict(convert_bert_weights(module, config), strict=False)
    return encoder.eval()
