from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from inference.activations import capture, spliced
from inference.hook_points import UnknownHookPoint, names
from tests.tiny import TEXT


@pytest.fixture
def ids_bt(model):
    return model.ids_bt(model.tokenize(TEXT))


def logits(model, ids_bt):
    with torch.inference_mode():
        return model.module(input_ids=ids_bt).logits


def every_hook(model):
    return names(model.family, model.n_layers)


def test_capture_has_the_width_of_each_hook_point(model, ids_bt):
    for name, x_btd in capture(model, ids_bt, every_hook(model)).items():
        assert x_btd.shape == (*ids_bt.shape, model.width(name)), name


def test_captured_parts_add_up_to_the_residual_stream(model, ids_bt):
    x = capture(model, ids_bt, every_hook(model))
    for layer in range(model.n_layers):
        block = f"blocks.{layer}"
        mid = x[f"{block}.hook_resid_pre"] + x[f"{block}.hook_attn_out"]
        torch.testing.assert_close(x[f"{block}.hook_resid_mid"], mid)
        torch.testing.assert_close(x[f"{block}.hook_mlp_in"], mid)
        torch.testing.assert_close(x[f"{block}.hook_resid_post"], mid + x[f"{block}.hook_mlp_out"])


def test_joined_hook_points_lie_side_by_side(model, ids_bt):
    joined = "blocks.1.hook_resid_post+blocks.0.attn.hook_z"
    x = capture(model, ids_bt, [joined, "blocks.0.hook_resid_post"])
    alone = capture(model, ids_bt, joined.split("+"))
    assert list(x) == [joined, "blocks.0.hook_resid_post"]
    assert torch.equal(x[joined], torch.cat(list(alone.values()), dim=-1))


def test_normalized_captures_come_before_gain_and_bias(model, ids_bt):
    x_btd = capture(model, ids_bt, ["blocks.1.ln2.hook_normalized"])["blocks.1.ln2.hook_normalized"]
    torch.testing.assert_close(x_btd.pow(2).mean(-1), torch.ones(ids_bt.shape), atol=1e-3, rtol=0)
    if model.family.norm.centred:
        torch.testing.assert_close(x_btd.mean(-1), torch.zeros(ids_bt.shape), atol=1e-5, rtol=0)


@pytest.mark.parametrize("hook_name", ["blocks.0.hook_resid_post", "blocks.1.ln1.hook_normalized", "hook_embed"])
def test_capture_stops_behind_the_deepest_hook_point(model, ids_bt, hook_name):
    ran = []
    handles = [
        module.register_forward_pre_hook(lambda module, _, name=name: ran.append(name))
        for name, module in model.module.named_modules()
    ]
    capture(model, ids_bt, [hook_name])
    for handle in handles:
        handle.remove()
    assert not any(f".{layer}" in name for name in ran for layer in (2,)), ran
    assert "lm_head" not in ran
    assert not any("mlp" in name and "blocks.1" in hook_name and ".1." in name for name in ran)


def test_capture_leaves_no_hooks(model, ids_bt):
    capture(model, ids_bt, every_hook(model))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.module.modules())


def test_threads_do_not_see_each_other(model):
    texts = [TEXT[start : start + 20] for start in range(8)]
    hooks = every_hook(model)
    alone = [capture(model, model.ids_bt(model.tokenize(text)), hooks) for text in texts]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda text: capture(model, model.ids_bt(model.tokenize(text)), hooks), texts))
    for first, second in zip(alone, together, strict=True):
        for name in hooks:
            torch.testing.assert_close(second[name], first[name], msg=name)


def test_a_batch_with_right_padding_equals_its_rows(model):
    texts = [TEXT[:20], TEXT[20:]]
    rows = [model.tokenize(text) for text in texts]
    width = max(len(row) for row in rows)
    ids_bt = torch.tensor([[*row.ids, *[0] * (width - len(row))] for row in rows])
    mask_bt = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    name = "blocks.2.hook_resid_post"
    batch_btd = capture(model, ids_bt, [name], attention_mask_bt=mask_bt)[name]
    for row, x_td in zip(rows, batch_btd, strict=True):
        alone_td = capture(model, model.ids_bt(row), [name])[name][0]
        torch.testing.assert_close(x_td[: len(row)], alone_td, atol=1e-5, rtol=1e-4)


def test_one_head_is_its_slice_of_all_heads(model, ids_bt):
    x = capture(model, ids_bt, ["blocks.1.attn.hook_z", "blocks.1.attn.hook_z.2"])
    assert torch.equal(x["blocks.1.attn.hook_z.2"], x["blocks.1.attn.hook_z"][..., 16:24])


def test_splicing_what_is_there_changes_nothing(model, ids_bt):
    before = logits(model, ids_bt)
    for name in [*every_hook(model), "blocks.1.attn.hook_z.2"]:
        with spliced(model, {name: lambda x_btd: x_btd.clone()}):
            torch.testing.assert_close(logits(model, ids_bt), before, atol=1e-5, rtol=1e-5, msg=name)
    assert torch.equal(logits(model, ids_bt), before)


def test_a_splice_is_seen_downstream_and_by_capture(model, ids_bt):
    before = logits(model, ids_bt)
    for name in every_hook(model):
        noise_btd = torch.randn(*ids_bt.shape, model.width(name), generator=torch.Generator().manual_seed(0))
        with spliced(model, {name: lambda x_btd, noise_btd=noise_btd: x_btd + noise_btd}):
            assert not torch.allclose(logits(model, ids_bt), before, atol=1e-2), name
            if "normalized" not in name:
                seen = capture(model, ids_bt, [name])[name]
        if "normalized" not in name:
            torch.testing.assert_close(seen, capture(model, ids_bt, [name])[name] + noise_btd, atol=1e-5, rtol=1e-5)


def test_mlp_in_reaches_the_mlp_only_and_resid_mid_the_stream_too(model, ids_bt):
    post = "blocks.1.hook_resid_post"
    clean = capture(model, ids_bt, [post, "blocks.1.hook_mlp_out"])
    for name, stream in (("blocks.1.hook_mlp_in", 0.0), ("blocks.1.hook_resid_mid", 1.0)):
        with spliced(model, {name: lambda x_btd: x_btd + 1}):
            x = capture(model, ids_bt, [post, "blocks.1.hook_mlp_out"])
        moved = x[post] - clean[post] - (x["blocks.1.hook_mlp_out"] - clean["blocks.1.hook_mlp_out"])
        torch.testing.assert_close(moved, torch.full_like(moved, stream), atol=1e-5, rtol=1e-5)


def test_a_normalized_splice_goes_through_the_gain(model, ids_bt):
    name = "blocks.1.ln2.hook_normalized"
    norm = model.module.get_submodule(model.resolve(name)[1].module)
    with spliced(model, {name: torch.zeros_like}):
        out_btd = capture(model, ids_bt, ["blocks.1.mlp.hook_post"])["blocks.1.mlp.hook_post"]
    norm_out = torch.zeros(1, model.d_model) if getattr(norm, "bias", None) is None else norm.bias[None]
    mlp = model.module.get_submodule(model.resolve("blocks.1.hook_mlp_out")[1].module)
    with torch.inference_mode():
        expected = (
            mlp.act(mlp.c_fc(norm_out))
            if model.family.name == "gpt2"
            else mlp.act_fn(mlp.gate_proj(norm_out)) * mlp.up_proj(norm_out)
        )
    torch.testing.assert_close(out_btd[0], expected.expand_as(out_btd[0]))


def test_the_error_term_makes_a_splice_exact(model, ids_bt, dictionaries):
    before = logits(model, ids_bt)
    dictionary = dictionaries["topk"]

    def reconstruct_with_error(x_btd):
        x_td = x_btd[0]
        return (dictionary.reconstruct(x_td) + dictionary.error(x_td))[None]

    def reconstruct(x_btd):
        return dictionary.reconstruct(x_btd[0])[None]

    with spliced(model, {dictionary.hook_out: reconstruct_with_error}):
        torch.testing.assert_close(logits(model, ids_bt), before, atol=1e-5, rtol=1e-5)
    with spliced(model, {dictionary.hook_out: reconstruct}):
        assert not torch.allclose(logits(model, ids_bt), before, atol=1e-2)


@pytest.mark.parametrize("hook_name", ["blocks.7.hook_resid_post", "blocks.0.attn.hook_z.9", "nothing"])
def test_capture_refuses_hook_points_that_are_not_there(model, ids_bt, hook_name):
    with pytest.raises(UnknownHookPoint):
        capture(model, ids_bt, [hook_name])
