"""A model in TransformerLens, for the peers beside this module that run on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def hooked_model(folder: Path) -> Any:
    """Load a GPT-2 from a folder as TransformerLens does, nothing folded: what dictionaries were trained on."""
    import transformer_lens
    from sae_lens import HookedSAETransformer
    from transformer_lens import loading_from_pretrained as loading
    from transformers import AutoTokenizer, GPT2LMHeadModel

    module = GPT2LMHeadModel.from_pretrained(folder)
    theirs = module.config
    config = transformer_lens.HookedTransformerConfig(
        n_layers=theirs.n_layer,
        d_model=theirs.n_embd,
        n_heads=theirs.n_head,
        d_head=theirs.n_embd // theirs.n_head,
        d_mlp=4 * theirs.n_embd,
        d_vocab=theirs.vocab_size,
        n_ctx=theirs.n_positions,
        normalization_type="LN",
        eps=theirs.layer_norm_epsilon,
        act_fn="gelu_new",
        original_architecture="GPT2LMHeadModel",
        device="cpu",
    )
    weights = loading.get_pretrained_state_dict(str(folder), config, hf_model=module)
    model = HookedSAETransformer(config, tokenizer=AutoTokenizer.from_pretrained(folder))
    others = ("fold_ln", "center_writing_weights", "center_unembed", "fold_value_biases")
    model.load_and_process_state_dict(weights, **dict.fromkeys(others, False))
    return model.eval()
