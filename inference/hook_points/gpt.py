"""GPT-2 and what descends from it: LayerNorm, and blocks that are sequential or parallel."""

from __future__ import annotations

from inference.hook_points.sites import Family, Norm, Site, block_sites, without

_LAYER_NORM = Norm(centred=True, epsilon="eps")

_NEOX_BLOCK = block_sites(
    "gpt_neox.layers.{layer}",
    ln1="input_layernorm",
    attention="attention",
    z="attention.dense",
    ln2="post_attention_layernorm",
    mlp="mlp",
    pre="mlp.dense_h_to_4h",
    post="mlp.dense_4h_to_h",
)
_NEOX_ENDS = {
    "hook_embed": Site("gpt_neox.embed_in"),
    "ln_final.hook_normalized": Site("gpt_neox.final_layer_norm", normalized=True),
}

_PHI_NORM, _PHI_ATTENTION, _PHI_MLP = (
    f"model.layers.{{layer}}.{name}" for name in ("input_layernorm", "self_attn", "mlp")
)

FAMILIES = (
    Family(
        name="gpt2",
        known_as="GPT-2, DistilGPT-2",
        base="transformer",
        norm=_LAYER_NORM,
        sites={
            "hook_embed": Site("transformer.wte"),
            **block_sites(
                "transformer.h.{layer}",
                ln1="ln_1",
                attention="attn",
                z="attn.c_proj",
                ln2="ln_2",
                mlp="mlp",
                pre="mlp.c_fc",
                post="mlp.c_proj",
            ),
            "ln_final.hook_normalized": Site("transformer.ln_f", normalized=True),
        },
    ),
    Family(
        name="gpt_neo",
        known_as="GPT-Neo, TinyStories",
        base="transformer",
        norm=_LAYER_NORM,
        sites={
            "hook_embed": Site("transformer.wte"),
            **block_sites(
                "transformer.h.{layer}",
                ln1="ln_1",
                attention="attn",
                z="attn.attention.out_proj",
                ln2="ln_2",
                mlp="mlp",
                pre="mlp.c_fc",
                post="mlp.c_proj",
            ),
            "ln_final.hook_normalized": Site("transformer.ln_f", normalized=True),
        },
    ),
    Family(
        name="gpt_neox",
        known_as="Pythia, GPT-NeoX",
        when={"use_parallel_residual": True},
        base="gpt_neox",
        norm=_LAYER_NORM,
        # Attention and MLP read the same input, so that no residual stream lies between them.
        sites=_NEOX_ENDS | without(_NEOX_BLOCK, "hook_resid_mid"),
    ),
    Family(
        name="gpt_neox_sequential",
        known_as="RedPajama-INCITE",
        model_type="gpt_neox",
        when={"use_parallel_residual": False},
        base="gpt_neox",
        norm=_LAYER_NORM,
        sites=_NEOX_ENDS | _NEOX_BLOCK,
    ),
    Family(
        name="phi",
        known_as="Phi-1, Phi-1.5, Phi-2",
        base="model",
        norm=_LAYER_NORM,
        sites={
            "hook_embed": Site("model.embed_tokens"),
            **without(
                block_sites(
                    "model.layers.{layer}",
                    ln1="input_layernorm",
                    attention="self_attn",
                    z="self_attn.dense",
                    ln2="input_layernorm",
                    mlp="mlp",
                    pre="mlp.fc1",
                    post="mlp.fc2",
                ),
                "hook_resid_mid",
            ),
            # One norm serves attention and MLP; TransformerLens gives each its own.
            "ln1.hook_normalized": Site(_PHI_NORM, normalized=True, only_for=_PHI_ATTENTION),
            "hook_mlp_in": Site(_PHI_NORM, "input", only_for=_PHI_MLP),
            "ln2.hook_normalized": Site(_PHI_NORM, normalized=True, only_for=_PHI_MLP),
            "mlp.hook_in": Site(_PHI_MLP, "input"),
            "ln_final.hook_normalized": Site("model.final_layernorm", normalized=True),
        },
    ),
)
