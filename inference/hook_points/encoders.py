"""BERT and its kin: encoders, whose norms come behind each sum, and which have no head that continues a text.

`hook_resid_mid` and `hook_resid_post` are the sums before those norms, as in TransformerLens; what the next block
reads is `hook_normalized_resid_post`.
"""

from __future__ import annotations

from inference.hook_points.sites import Family, Norm, Site

_BLOCK = "encoder.layer.{layer}"
_LN1, _LN2 = f"{_BLOCK}.attention.output.LayerNorm", f"{_BLOCK}.output.LayerNorm"

FAMILIES = (
    Family(
        name="bert",
        known_as="BERT, MiniLM sentence encoders",
        base="",
        norm=Norm(centred=True, epsilon="eps"),
        causal=False,
        gaps=("generation, steering and effects on logits", "the final [SEP]", "pooler and heads"),
        sites={
            "hook_embed": Site("embeddings.word_embeddings"),
            "hook_resid_pre": Site(_BLOCK, "input"),
            "attn.hook_z": Site(
                f"{_BLOCK}.attention.output.dense", "input", "heads", attends=f"{_BLOCK}.attention.self"
            ),
            "hook_attn_out": Site(f"{_BLOCK}.attention.output.dense"),
            "hook_resid_mid": Site(_LN1, "input"),
            "ln1.hook_normalized": Site(_LN1, normalized=True),
            "mlp.hook_in": Site(
                f"{_BLOCK}.intermediate", "input", aliases=(f"{_LN1}.output", f"{_BLOCK}.attention.output")
            ),
            "mlp.hook_pre": Site(f"{_BLOCK}.intermediate.dense", width="mlp"),
            "mlp.hook_post": Site(f"{_BLOCK}.output.dense", "input", "mlp", aliases=(f"{_BLOCK}.intermediate.output",)),
            "hook_mlp_out": Site(f"{_BLOCK}.output.dense"),
            "hook_resid_post": Site(_LN2, "input"),
            "ln2.hook_normalized": Site(_LN2, normalized=True),
            "hook_normalized_resid_post": Site(_BLOCK, aliases=(f"{_LN2}.output", f"{_BLOCK}.output.output")),
        },
    ),
)
