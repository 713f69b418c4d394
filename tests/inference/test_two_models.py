"""A crosscoder of two models beside both: what it reads, what it explains, and what it may change."""

from dataclasses import replace

import pytest
import torch

from inference.activations import capture, spliced
from inference.dashboards.geometry import logit_effects, logit_path
from inference.dictionaries import check_fit, load_dictionary
from inference.dictionaries.config import DictionaryDoesNotFit
from inference.evaluation import Batch, sums_of_batch
from inference.hook_points import UnknownHookPoint
from inference.language_models import load_language_model
from inference.prompts import feature_activations, prompt_features
from inference.steering import hooks_for
from inference.values import Edit
from tests.tiny import TEXT, tiny_model
from tests.tiny_sets import WIDTH, tiny_crosscoder

OWN, OTHER = "base/blocks.1.hook_resid_post", "chat/blocks.0.hook_resid_mid"


@pytest.fixture(scope="module")
def chat(tmp_path_factory):
    """A model of another family and depth with the same tokenizer."""
    folder = tiny_model(tmp_path_factory.mktemp("chat"), "llama", n_layers=2, seed=7)
    return load_language_model(folder, name="chat", device="cpu")


@pytest.fixture
def both(gpt2, chat):
    return replace(gpt2, name="base", companions={"chat": chat})


@pytest.fixture(scope="module")
def crosscoder(tmp_path_factory):
    folder = tiny_crosscoder(tmp_path_factory.mktemp("both") / "crosscoder", points=f"{OWN}+{OTHER}")
    return load_dictionary(folder, device="cpu")


@pytest.fixture
def x_td(gpt2, chat):
    """What each model has at its point when it runs alone."""
    ids_bt = gpt2.ids_bt(gpt2.tokenize(TEXT))
    at_each = [
        capture(model, ids_bt, [point])[point][0]
        for model, point in ((gpt2, "blocks.1.hook_resid_post"), (chat, "blocks.0.hook_resid_mid"))
    ]
    return torch.cat(at_each, dim=1)


def test_each_model_runs_and_stops_behind_its_own_point(both, chat, crosscoder, x_td):
    ran = []
    last = {"base": both.module.transformer.h[2], "chat": chat.module.model.layers[1]}
    handles = [module.register_forward_hook(lambda *_, name=name: ran.append(name)) for name, module in last.items()]
    captured = capture(both, both.ids_bt(both.tokenize(TEXT)), [crosscoder.hook_in])
    [handle.remove() for handle in handles]
    assert torch.equal(captured[crosscoder.hook_in][0], x_td)
    assert ran == []
    assert (both.width(OWN), both.width("chat/blocks.0.mlp.hook_post")) == (WIDTH, chat.d_mlp)
    with pytest.raises(UnknownHookPoint, match="not loaded beside base"):
        capture(both, both.ids_bt(both.tokenize(TEXT)), ["third/blocks.0.hook_resid_post"])


def test_prompts_show_what_both_models_fire(both, crosscoder, x_td):
    tokens = both.tokenize(TEXT)
    expected_tf = crosscoder.encode(x_td).dense()
    found = prompt_features(both, {"0-cc": crosscoder}, tokens, top_k=5, ignore_bos=False)
    assert torch.tensor(found.features[0].values).equal(expected_tf[:, found.features[0].index])
    a_tm = feature_activations(both, crosscoder, tokens, [3, 5], ignore_bos=False)
    torch.testing.assert_close(a_tm, expected_tf[:, [3, 5]])


def test_steering_adds_a_features_share_in_the_model_itself_and_leaves_the_other(both, crosscoder, x_td):
    tokens = both.tokenize(TEXT)
    edit = Edit(dictionary_key="0-cc", feature=3, strength=2.0, maximum=5.0)
    hooks = hooks_for({"0-cc": crosscoder}, [[edit]], n_untouched=tokens.n_special)
    with spliced(both, hooks):
        steered_td = capture(both, both.ids_bt(tokens), [crosscoder.hook_in])[crosscoder.hook_in][0]
    row_d = crosscoder.decoder_directions([3])[0]
    added_td = torch.zeros_like(x_td)
    added_td[1:, :WIDTH] = 10 * (row_d / row_d.norm())[:WIDTH]
    torch.testing.assert_close(steered_td, x_td + added_td, atol=1e-5, rtol=1e-5)
    assert added_td.abs().max() > 0.1


def test_effects_on_logits_are_of_what_is_written_in_the_model_itself(both, crosscoder):
    assert logit_path(both, crosscoder) == "directions of the residual stream"
    alone = logit_effects(both, _at_own_point(crosscoder))
    for name, array in logit_effects(both, crosscoder).items():
        assert array == pytest.approx(alone[name], abs=1e-5), name


def _at_own_point(crosscoder):
    """Return a dictionary of the model alone that writes what the crosscoder writes there."""
    decoder = replace(crosscoder.decoder, w_dec_fo=crosscoder.decoder.w_dec_fo[:, :WIDTH].contiguous())
    point = OWN.removeprefix("base/")
    return replace(crosscoder, decoder=decoder, config=replace(crosscoder.config, hook_in=point, hook_out=point))


def test_evaluation_explains_both_models_and_splices_one(both, gpt2, crosscoder, x_td):
    ids_bt = gpt2.ids_bt(gpt2.tokenize(TEXT))
    text_bt = torch.ones_like(ids_bt, dtype=torch.bool)
    text_bt[:, 0] = False
    scored_bt = text_bt.clone()
    scored_bt[:, -1] = False
    batch = Batch(ids_bt=ids_bt, text_bt=text_bt, scored_bt=scored_bt, target_p=ids_bt[0, 2:])
    [sums] = sums_of_batch(both, {"0-cc": crosscoder}, [["0-cc"]], batch)
    error_td = crosscoder.error(x_td)[1:]
    assert sums.reconstruction.error == pytest.approx(float(error_td.square().sum()), rel=1e-4)
    y_td = crosscoder.reconstruct(x_td)[:, :WIDTH]
    losses = {}
    for name, value_td in (("spliced", y_td), ("ablated", torch.zeros_like(y_td))):

        def put(x_btd, value_td=value_td):
            return torch.cat([x_btd[:, :1], value_td[None, 1:]], dim=1)

        with torch.inference_mode(), spliced(gpt2, {"blocks.1.hook_resid_post": put}):
            log_pv = gpt2.module(ids_bt).logits[0, 1:-1].log_softmax(-1)
        losses[name] = -float(log_pv.gather(1, ids_bt[0, 2:, None]).sum())
    assert sums.losses.ce_spliced == pytest.approx(losses["spliced"], rel=1e-4)
    assert sums.losses.ce_ablated == pytest.approx(losses["ablated"], rel=1e-4)
    assert len({*losses.values(), sums.losses.ce_clean}) == 3


@pytest.mark.parametrize(
    ("model", "companion", "cause", "remedy"),
    [
        ({"name": "third"}, {}, "does not read and write third", "hook_in to facet.json"),
        ({}, None, "there is no model chat", "Add that model under this name"),
        ({}, {"d_vocab": 500}, "chat has 500 tokens and base 512", "share a tokenizer"),
        ({}, {"d_model": 48}, "32 wide at chat/blocks.0.hook_resid_mid, where chat is 48 wide", "trained on"),
        ({"d_model": 48}, {}, "32 wide at base/blocks.1.hook_resid_post, where base is 48 wide", "trained on"),
    ],
)
def test_what_does_not_fit_is_refused_with_cause_and_remedy(both, crosscoder, model, companion, cause, remedy):
    chat = both.companions["chat"].shape
    companions = {} if companion is None else {"chat": replace(chat, **companion)}
    with pytest.raises(DictionaryDoesNotFit) as error:
        check_fit(crosscoder.config, replace(both.shape, **model), companions)
    assert cause in error.value.cause and remedy in error.value.remedy
    both.check_fit(crosscoder.config)


def test_a_point_outside_the_other_model_is_unknown(both, crosscoder):
    shallow = replace(both.companions["chat"].shape, n_layers=0)
    with pytest.raises(UnknownHookPoint, match="outside the model"):
        check_fit(crosscoder.config, both.shape, {"chat": shallow})


def test_what_reads_one_model_and_writes_the_other_fits_neither(both, crosscoder):
    config = replace(crosscoder.config, hook_in=OWN, hook_out=OTHER, d_in=WIDTH, d_out=WIDTH)
    with pytest.raises(DictionaryDoesNotFit, match="does not read and write base"):
        both.check_fit(config)
