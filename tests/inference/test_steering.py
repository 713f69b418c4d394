from dataclasses import replace

import pytest
import torch

from inference.activations import capture, spliced
from inference.dictionaries.architectures.linear import LinearDecoder
from inference.dictionaries.dictionary import UnknownFeature
from inference.steering import OPERATIONS, Edit, InvalidStrength, UnknownOperation, hooks_for
from tests.tiny import TEXT


def edit(key="topk", feature=3, strength=2.0, maximum=5.0, **more):
    return Edit(dictionary_key=key, feature=feature, strength=strength, maximum=maximum, **more)


def steered(model, ids_bt, dictionaries, variants, *, n_untouched=1):
    hooks = hooks_for(dictionaries, variants, n_untouched=n_untouched)
    with spliced(model, hooks), torch.inference_mode():
        return model.module(input_ids=ids_bt).logits


@pytest.fixture
def ids_bt(model):
    return model.ids_bt(model.tokenize(TEXT))


def test_add_moves_by_strength_times_maximum_along_the_unit_direction(model, ids_bt, dictionaries):
    dictionary = dictionaries["topk"]
    clean_td = capture(model, ids_bt, [dictionary.hook_out])[dictionary.hook_out][0]
    with spliced(model, hooks_for(dictionaries, [[edit()]], n_untouched=1)):
        moved_td = capture(model, ids_bt, [dictionary.hook_out])[dictionary.hook_out][0] - clean_td
    row_d = dictionary.decoder_directions([3])[0]
    assert torch.equal(moved_td[0], torch.zeros_like(row_d))
    expected_td = (2.0 * 5.0 * row_d / row_d.norm()).expand_as(moved_td[1:])
    torch.testing.assert_close(moved_td[1:], expected_td, atol=1e-5, rtol=1e-4)


def test_a_feature_of_several_hook_points_adds_its_share_at_each(model, ids_bt, dictionaries):
    both = ["blocks.0.hook_resid_pre", "blocks.1.hook_resid_post"]
    decoder = LinearDecoder(torch.randn(5, 2 * model.d_model), torch.zeros(2 * model.d_model))
    config = replace(dictionaries["topk"].config, hook_out="+".join(both), n_features=5)
    hooks = hooks_for(
        {"both": replace(dictionaries["topk"], config=config, decoder=decoder)}, [[edit("both")]], n_untouched=1
    )
    row_d = decoder.w_dec_fo[3]
    moves = dict(zip(both, (10.0 * row_d / row_d.norm()).chunk(2), strict=True))
    zeros_btd = torch.zeros(1, 4, model.d_model)
    assert list(hooks) == both
    for name, hook in hooks.items():
        torch.testing.assert_close(hook(zeros_btd)[0, 1:], moves[name].expand(3, -1))


@pytest.mark.parametrize("key", ["topk", "jumprelu", "relu", "attention", "transcoder"])
def test_strength_zero_changes_nothing(model, ids_bt, dictionaries, key):
    with torch.inference_mode():
        before = model.module(input_ids=ids_bt).logits
    assert torch.equal(steered(model, ids_bt, dictionaries, [[edit(key, strength=0.0)]]), before)
    assert not torch.allclose(steered(model, ids_bt, dictionaries, [[edit(key)]]), before, atol=1e-2)


def test_add_then_subtract_returns(model, ids_bt, dictionaries):
    with torch.inference_mode():
        before = model.module(input_ids=ids_bt).logits
    there_and_back = steered(model, ids_bt, dictionaries, [[edit(strength=3.0), edit(strength=-3.0)]])
    torch.testing.assert_close(there_and_back, before, atol=1e-4, rtol=1e-4)


def test_edits_of_one_hook_point_add_up(model, ids_bt, dictionaries):
    twice = steered(model, ids_bt, dictionaries, [[edit(strength=1.0), edit(strength=1.0)]])
    once = steered(model, ids_bt, dictionaries, [[edit(strength=2.0)]])
    torch.testing.assert_close(twice, once, atol=1e-4, rtol=1e-4)


def test_each_row_has_its_own_edits(model, ids_bt, dictionaries):
    variants = [[], [edit("topk")], [edit("attention"), edit("transcoder", feature=9)]]
    batch = steered(model, ids_bt.expand(3, -1), dictionaries, variants)
    for row, variant in enumerate(variants):
        alone = steered(model, ids_bt, dictionaries, [variant])
        torch.testing.assert_close(batch[row], alone[0], atol=1e-4, rtol=1e-4)


def test_bos_is_never_changed(model, ids_bt, dictionaries):
    with torch.inference_mode():
        before = model.module(input_ids=ids_bt).logits
    after = steered(model, ids_bt, dictionaries, [[edit(strength=9.0)]])
    assert torch.equal(after[:, 0], before[:, 0])
    assert not torch.equal(after[:, 1], before[:, 1])


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"op": "explode"}, UnknownOperation),
        ({"key": "nothing"}, UnknownOperation),
        ({"feature": 128}, UnknownFeature),
        ({"strength": float("nan")}, InvalidStrength),
        ({"maximum": float("inf")}, InvalidStrength),
    ],
    ids=["operation", "dictionary", "feature", "nan", "infinite"],
)
def test_edits_that_cannot_be_made_are_refused(dictionaries, wrong, error):
    with pytest.raises(error):
        hooks_for(dictionaries, [[edit(**wrong)]], n_untouched=1)


def test_add_is_registered():
    assert "add" in OPERATIONS
