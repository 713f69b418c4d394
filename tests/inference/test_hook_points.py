import pytest

from inference.hook_points import FAMILIES, UnknownHookPoint, names, parse, resolve


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
