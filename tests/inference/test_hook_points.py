import pytest

from inference.hook_points import FAMILIES, UnknownHookPoint, from_other_name, names, parse, resolve, shortened


def test_parse_splits_layer_site_and_head():
    point = parse("blocks.10.attn.hook_z.3")
    assert (point.layer, point.site, point.head) == (10, "attn.hook_z", 3)
    assert parse("hook_embed").layer == -1
    assert parse("ln_final.hook_normalized").layer is None


@pytest.mark.parametrize(
    "name",
    ["", "blocks.1", "blocks.x.hook_resid_post", "blocks.1.hook_resid_pots", "blocks.1.hook_mlp_out.3", "layers.1"],
)
def test_parse_names_the_nearest_for_what_is_unknown(name):
    with pytest.raises(UnknownHookPoint, match=r"blocks\.N\.hook_resid_post"):
        parse(name)


@pytest.mark.parametrize("name", ["blocks.3.hook_resid_post", "blocks.0.attn.hook_z.4"])
def test_resolve_refuses_what_lies_outside_the_model(name):
    with pytest.raises(UnknownHookPoint, match="outside the model"):
        resolve(FAMILIES["gpt2"], name, n_layers=3, n_heads=4)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_every_name_of_a_family_resolves(family):
    for name in names(family, 2):
        point, site = resolve(family, name, n_layers=2)
        assert point.name == name
        assert "{" not in site.module


OTHER_NAMES = {
    # TransformerLens, with hyphens, and its bridge
    ("blocks.3.hook_resid_pre", "gpt2"): "blocks.3.hook_resid_pre",
    ("blocks.3.attn.hook_z.2", "llama"): "blocks.3.attn.hook_z.2",
    ("blocks-6-hook_resid_pre", "gpt2"): "blocks.6.hook_resid_pre",
    ("blocks.3.hook_out", "qwen2"): "blocks.3.hook_resid_post",
    ("blocks.3.mlp.hook_out", "qwen2"): "blocks.3.hook_mlp_out",
    ("blocks.3.mlp.hook_out", "gemma2"): "blocks.3.mlp.hook_out",
    ("blocks.3.mlp.hook_in", "qwen3"): "blocks.3.mlp.hook_in",
    ("embed.hook_out", "gemma2"): "hook_embed",
    # dictionary_learning
    ("resid_post_layer_12", "gemma2"): "blocks.12.hook_resid_post",
    ("mlp_out_layer_3", "gpt_neox"): "blocks.3.hook_mlp_out",
    ("attn_out_layer_3", "gpt_neox"): "blocks.3.hook_attn_out",
    ("mlp_out_layer_3", "gemma2"): "blocks.3.mlp.hook_out",
    # sparsify
    ("layers.10", "llama"): "blocks.10.hook_resid_post",
    ("layers.10.mlp", "llama"): "blocks.10.hook_mlp_out",
    ("layers.10.mlp/seed1", "llama"): "blocks.10.hook_mlp_out",
    ("layers.5.attention", "gpt_neox"): "blocks.5.hook_attn_out",
    ("h.3.attn", "gpt2"): "blocks.3.hook_attn_out",
    ("embed_tokens", "llama"): "hook_embed",
    ("layers.10.mlp", "gemma2"): "blocks.10.mlp.hook_out",
    ("encoder.layer.4", "bert"): "blocks.4.hook_normalized_resid_post",
    ("encoder.layer.4.output", "bert"): "blocks.4.hook_normalized_resid_post",
    ("encoder.layer.4.attention", "bert"): "blocks.4.mlp.hook_in",
    # paths of modules, as in Gemma Scope 2
    ("model.layers.3.output", "gemma3_text"): "blocks.3.hook_resid_post",
    ("model.layers.3.output", "gemma3"): "blocks.3.hook_resid_post",
    ("model.language_model.layers.3.output", "gemma3"): "blocks.3.hook_resid_post",
    ("language_model.model.layers.3.output", "gemma3"): "blocks.3.hook_resid_post",
    ("model.layers.3.self_attn.o_proj.input", "gemma3_text"): "blocks.3.attn.hook_z",
    ("model.layers.3.pre_feedforward_layernorm.output", "gemma3_text"): "blocks.3.mlp.hook_in",
    ("model.layers.3.post_feedforward_layernorm.output", "gemma3_text"): "blocks.3.hook_mlp_out",
    ("model.layers.3.post_attention_layernorm.output", "llama"): "blocks.3.mlp.hook_in",
    ("model.layers.3.post_attention_layernorm.input", "llama"): "blocks.3.hook_mlp_in",
    ("transformer.h.3.mlp.c_proj.output", "gpt2"): "blocks.3.hook_mlp_out",
    ("transformer.h.3.mlp.c_proj.input", "gpt2"): "blocks.3.mlp.hook_post",
    ("model.layers.3.input", "phi"): "blocks.3.hook_resid_pre",
}


@pytest.mark.parametrize(("other", "name"), OTHER_NAMES.items(), ids=[" ".join(other) for other in OTHER_NAMES])
def test_names_of_other_packages_lead_to_the_same_point(other, name):
    name_there, family = other
    assert from_other_name(name_there, FAMILIES[family]) == name


def test_a_path_means_the_end_that_is_asked_for():
    assert from_other_name("layers.3.mlp", FAMILIES["llama"], end="input") == "blocks.3.mlp.hook_in"
    assert from_other_name("layers.3.mlp.output", FAMILIES["llama"], end="input") == "blocks.3.hook_mlp_out"


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_a_hook_point_is_its_own_name(family):
    for name in names(family, 2):
        assert from_other_name(name, family) == name


@pytest.mark.parametrize(
    ("joined", "short"),
    [
        ("blocks.2.hook_resid_post", "blocks.2.hook_resid_post"),
        ("blocks.2.attn.hook_z.3", "blocks.2.attn.hook_z.3"),
        ("+".join(f"blocks.{n}.hook_mlp_out" for n in range(26)), "blocks.0–25.hook_mlp_out"),
        ("+".join(f"blocks.{n}.hook_resid_post" for n in (7, 13, 14, 17)), "blocks.7,13,14,17.hook_resid_post"),
        ("blocks.1.hook_resid_pre+blocks.1.hook_mlp_out", "blocks.1.hook_resid_pre + blocks.1.hook_mlp_out"),
        (
            "a/blocks.1.hook_resid_pre+b/blocks.1.hook_resid_pre",
            "a/blocks.1.hook_resid_pre + b/blocks.1.hook_resid_pre",
        ),
        ("hook_embed+not said", "hook_embed + not said"),
    ],
)
def test_joined_names_are_shortened(joined, short):
    assert shortened(joined) == short


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("blocks.3.hook_resid_mid", "gpt_neox"),
        ("blocks.3.mlp.hook_post", "mixtral"),
        ("layers.3.attention", "llama"),
        ("resid_layer_3", "llama"),
        ("h.x.attn", "gpt2"),
        ("", "gpt2"),
    ],
)
def test_a_name_that_leads_nowhere_is_refused(name, family):
    with pytest.raises(UnknownHookPoint, match=family):
        from_other_name(name, FAMILIES[family])
