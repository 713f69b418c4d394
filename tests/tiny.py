"""Tiny real parts for tests: random language models with a trained tokenizer, and random SAELens dictionaries.

Nothing here is a mock: the folders are what `transformers` and SAELens write, only small enough to make in a second.
"""

from __future__ import annotations

import argparse
import functools
import inspect
import json
import string
import textwrap
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedTokenizerFast

from inference.hook_points import FAMILIES

BOS = "<|endoftext|>"
CONTEXT_SIZE = 64
# Real text with several scripts and characters of two to four bytes.
TEXT = "def größe(naïve: str) -> str:\n    return '東京 🦊' + naïve  # café, übung\n"

# What a family's tiny configuration has beside the common sizes. Sliding windows are shorter than TEXT, and heads are
# wider than d_model / n_heads where the family lets them be, so that places that only look alike differ.
_GATED = {"intermediate_size": 96, "num_key_value_heads": 2, "tie_word_embeddings": False}
_WINDOWS = {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
_GEMMA = {"intermediate_size": 96, "num_key_value_heads": 2, "head_dim": 16, "query_pre_attn_scalar": 12}
_GEMMA_3 = _GEMMA | _WINDOWS
_EXPERTS = _GATED | {"num_local_experts": 4, "num_experts_per_tok": 2}
SETTINGS: dict[str, dict[str, object]] = {
    "gpt2": {},
    "gpt_neo": {"attention_types": [[["global", "local", "global"], 1]], "window_size": 16},
    "gpt_neox": {"intermediate_size": 96, "hidden_act": "gelu"},
    "gpt_neox_sequential": {"intermediate_size": 96, "use_parallel_residual": False},
    "phi": {"intermediate_size": 96},
    "llama": _GATED,
    "mistral": _GATED | {"sliding_window": 16},
    "qwen2": _GATED,
    "qwen3": _GATED | {"head_dim": 16},
    "olmo": _GATED | {"num_key_value_heads": 4},
    "olmo2": _GATED | {"num_key_value_heads": 4},
    "olmo3": _GATED | _WINDOWS | {"num_key_value_heads": 4},
    "phi3": _GATED | {"pad_token_id": 0},
    "mixtral": _EXPERTS,
    "olmoe": _GATED | {"num_experts": 4, "num_experts_per_tok": 2},
    "qwen3_moe": _EXPERTS | {"num_experts": 4, "moe_intermediate_size": 48, "head_dim": 16, "norm_topk_prob": True},
    "gpt_oss": _EXPERTS | _WINDOWS | {"head_dim": 16},
    "gemma": _GEMMA,
    "gemma2": _GEMMA | _WINDOWS,
    "gemma3_text": _GEMMA_3,
    "gemma3": _GEMMA_3,
    "bert": {"intermediate_size": 96},
}
_EYE = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28}


@functools.cache
def _tokenizer_json(d_vocab: int) -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=d_vocab,
        special_tokens=[BOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(map(inspect.getsource, (argparse, inspect, json, string, textwrap)), trainer)
    return tokenizer.to_str()


def tiny_tokenizer(d_vocab: int = 512) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer trained on five standard modules, with BOS as token 0."""
    backend = Tokenizer.from_str(_tokenizer_json(d_vocab))
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=BOS, eos_token=BOS, unk_token=BOS)


def tiny_model(
    folder: Path,
    family: str = "gpt2",
    *,
    n_layers: int = 3,
    d_model: int = 32,
    n_heads: int = 4,
    context_size: int = CONTEXT_SIZE,
    seed: int = 0,
) -> Path:
    """Save a random model of a family with its tokenizer; return its folder `folder/<family>`."""
    tokenizer = tiny_tokenizer()
    known = FAMILIES[family]
    sizes = {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": context_size,
        "hidden_size": d_model,
        "num_hidden_layers": n_layers,
        "num_attention_heads": n_heads,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    settings = sizes | SETTINGS[family]
    if family == "gemma3":
        settings = {"text_config": settings, "vision_config": _EYE, "mm_tokens_per_image": 4}
    config = AutoConfig.for_model(known.model_type or family, **settings)
    generator = torch.Generator().manual_seed(seed)
    model = (AutoModelForCausalLM if known.causal else AutoModel).from_config(config)
    with torch.no_grad():
        # Wide weights and gains away from one, so that a wrong hook point or a forgotten gain shows.
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            gain = parameter.ndim == 1 and name.endswith("weight")
            parameter.copy_(1 + 0.3 * noise if gain else 0.15 * noise)
    path = Path(folder) / family
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def tiny_dictionary(
    folder: Path,
    architecture: str = "topk",
    hook_name: str = "blocks.1.hook_resid_post",
    *,
    d_in: int = 32,
    d_sae: int = 128,
    hook_name_out: str | None = None,
    d_out: int | None = None,
    k: int = 8,
    source: str | None = None,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    **overrides: object,
) -> Path:
    """Save a random dictionary in the SAELens layout; return its folder `folder/<source>`.

    `architecture` is a SAELens name: standard, topk, jumprelu, transcoder, jumprelu_transcoder, skip_transcoder.
    `overrides` replace entries of cfg.json, such as `apply_b_dec_to_input` or `normalize_activations`.
    """
    generator = torch.Generator().manual_seed(seed)
    transcoder = "transcoder" in architecture or hook_name_out is not None
    d_out = d_out or d_in
    w_dec_fd = torch.randn(d_sae, d_out, generator=generator)
    w_dec_fd *= (0.5 + torch.rand(d_sae, 1, generator=generator)) / w_dec_fd.norm(dim=1, keepdim=True)
    w_enc_df = torch.randn(d_in, d_sae, generator=generator) / d_in**0.5
    if not transcoder:
        w_enc_df = 0.5 * w_enc_df + 0.5 * w_dec_fd.T
    tensors = {
        "W_enc": w_enc_df,
        "W_dec": w_dec_fd,
        "b_enc": 0.1 * torch.randn(d_sae, generator=generator),
        "b_dec": 0.1 * torch.randn(d_out, generator=generator),
    }
    if architecture.startswith("jumprelu"):
        tensors["threshold"] = 0.2 + 0.3 * torch.rand(d_sae, generator=generator)
    if "skip" in architecture:
        tensors["W_skip"] = 0.1 * torch.randn(d_out, d_in, generator=generator)
    metadata = {"model_name": "tiny", "hook_name": hook_name, "prepend_bos": True, "context_size": CONTEXT_SIZE}
    if transcoder:
        metadata["hook_name_out"] = hook_name_out or hook_name.replace("ln2.hook_normalized", "hook_mlp_out")
    config = {
        "architecture": architecture,
        "d_in": d_in,
        "d_sae": d_sae,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": not transcoder,
        "normalize_activations": "none",
        "reshape_activations": "hook_z" if hook_name.endswith("hook_z") else "none",
        "metadata": metadata,
    }
    if architecture == "topk":
        config |= {"k": k, "rescale_acts_by_decoder_norm": False}
    if transcoder:
        config["d_out"] = d_out
    path = Path(folder) / (source or f"{hook_name.split('.')[1]}-{hook_name.rsplit('_', 1)[-1]}-{architecture}")
    path.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: tensor.to(dtype).contiguous() for name, tensor in tensors.items()}, path / "sae_weights.safetensors"
    )
    (path / "cfg.json").write_text(json.dumps(config | overrides, indent=1))
    return path
