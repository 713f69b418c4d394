"""Llama and the many that keep its module names: RMSNorm, gated MLPs or experts, sequential blocks."""

from __future__ import annotations

from dataclasses import replace

from inference.hook_points.sites import Family, Norm, Site, block_sites, with_norms_behind

_RMS_NORM = Norm(centred=False, epsilon="variance_epsilon")
_NEURONS = {"pre": "mlp.gate_proj", "linear": "mlp.up_proj", "post": "mlp.down_proj"}
_NO_NEURONS = "neurons inside the experts"


def _sites(**neurons: str) -> dict[str, Site]:
    return {
        "hook_embed": Site("model.embed_tokens"),
        **block_sites(
            "model.layers.{layer}",
            ln1="input_layernorm",
            attention="self_attn",
            z="self_attn.o_proj",
            ln2="post_attention_layernorm",
            mlp="mlp",
            **neurons,
        ),
        "ln_final.hook_normalized": Site("model.norm", normalized=True),
    }


def _olmo2_sites() -> dict[str, Site]:
    """Return the sites of blocks with norms behind attention and MLP only, which TransformerLens calls ln1 and ln2."""
    block = "model.layers.{layer}"
    ln1, ln2 = "post_attention_layernorm", "post_feedforward_layernorm"
    behind = {"attention": "self_attn", "z": "self_attn.o_proj", "mlp": "mlp", "post": "mlp.down_proj"}
    return {
        **with_norms_behind(_sites(**_NEURONS), block, **behind, after_attention=ln1, after_mlp=ln2),
        "ln1.hook_normalized": Site(f"{block}.{ln1}", normalized=True, then=f"{block}.{ln1}"),
        "hook_mlp_in": Site(f"{block}.mlp", "input"),
        "mlp.hook_in": Site(f"{block}.mlp", "input"),
        "ln2.hook_normalized": Site(f"{block}.{ln2}", normalized=True, then=f"{block}.{ln2}"),
    }


def _like_llama(name: str, known_as: str) -> Family:
    return Family(name=name, known_as=known_as, base="model", norm=_RMS_NORM, sites=_sites(**_NEURONS))


def _experts(name: str, known_as: str) -> Family:
    return Family(name=name, known_as=known_as, base="model", norm=_RMS_NORM, sites=_sites(), gaps=(_NO_NEURONS,))


FAMILIES = (
    _like_llama("llama", "Llama 1, 2 and 3, TinyLlama, R1-Distill-Llama"),
    _like_llama("mistral", "Mistral 7B"),
    _like_llama("qwen2", "Qwen 1.5, 2 and 2.5, R1-Distill-Qwen"),
    _like_llama("qwen3", "Qwen 3"),
    replace(_like_llama("olmo", "OLMo"), norm=Norm(centred=True, epsilon=1e-5)),
    replace(_like_llama("olmo2", "OLMo 2"), sites=_olmo2_sites()),
    replace(_like_llama("olmo3", "OLMo 3"), sites=_olmo2_sites()),
    # One projection makes the gate and what it multiplies, side by side.
    replace(_like_llama("phi3", "Phi-3, Phi-4"), sites=_sites(post="mlp.down_proj")),
    _experts("mixtral", "Mixtral"),
    _experts("olmoe", "OLMoE"),
    _experts("qwen3_moe", "Qwen 3 mixture of experts"),
    _experts("gpt_oss", "GPT-OSS"),
)
