"""Gemma: RMSNorm with a gain of 1 + weight, scaled embeddings, and from Gemma 2 on norms on both sides.

`hook_embed` is what the first block reads: transformers multiplies the embedding by sqrt(d_model) inside its module.
`hook_attn_out` and `hook_mlp_out` are what is added to the residual stream, behind the second norm; what attention
and MLP themselves return is `attn.hook_out` and `mlp.hook_out`.
"""

from __future__ import annotations

from inference.hook_points.sites import Family, Norm, Site, block_sites, with_norms_behind

_NORM = Norm(centred=False, epsilon="eps", offset=1.0)


def _sites(base: str, ln2: str) -> dict[str, Site]:
    return {
        "hook_embed": Site(f"{base}.embed_tokens"),
        **block_sites(
            f"{base}.layers.{{layer}}",
            ln1="input_layernorm",
            attention="self_attn",
            z="self_attn.o_proj",
            ln2=ln2,
            mlp="mlp",
            pre="mlp.gate_proj",
            linear="mlp.up_proj",
            post="mlp.down_proj",
        ),
        "ln_final.hook_normalized": Site(f"{base}.norm", normalized=True),
    }


def _sites_with_norms_on_both_sides(base: str) -> dict[str, Site]:
    block = f"{base}.layers.{{layer}}"
    after_attention, after_mlp = "post_attention_layernorm", "post_feedforward_layernorm"
    ln1_post, ln2_post = f"{block}.{after_attention}", f"{block}.{after_mlp}"
    return {
        **with_norms_behind(
            _sites(base, ln2="pre_feedforward_layernorm"),
            block,
            attention="self_attn",
            z="self_attn.o_proj",
            mlp="mlp",
            post="mlp.down_proj",
            after_attention=after_attention,
            after_mlp=after_mlp,
        ),
        "ln1_post.hook_normalized": Site(ln1_post, normalized=True, then=ln1_post),
        "ln2_post.hook_normalized": Site(ln2_post, normalized=True, then=ln2_post),
    }


FAMILIES = (
    Family(
        name="gemma",
        known_as="Gemma 1",
        base="model",
        norm=_NORM,
        sites=_sites("model", ln2="post_attention_layernorm"),
    ),
    Family(
        name="gemma2",
        known_as="Gemma 2",
        base="model",
        norm=_NORM,
        sites=_sites_with_norms_on_both_sides("model"),
    ),
    Family(
        name="gemma3_text",
        known_as="Gemma 3 270M and 1B",
        base="model",
        norm=_NORM,
        sites=_sites_with_norms_on_both_sides("model"),
    ),
    Family(
        name="gemma3",
        known_as="Gemma 3 4B, 12B and 27B",
        base="model.language_model",
        norm=_NORM,
        sites=_sites_with_norms_on_both_sides("model.language_model"),
        gaps=("images",),
    ),
)
