import pytest
import torch

from inference.activations import capture
from inference.dictionaries.dictionary import UnknownFeature
from inference.errors import InvalidInput
from inference.prompts import feature_activations, prompt_features
from tests.tiny import TEXT


@pytest.fixture
def tokens(model):
    return model.tokenize(TEXT)


def dense(model, dictionary, tokens):
    x_td = capture(model, model.ids_bt(tokens), [dictionary.hook_in])[dictionary.hook_in][0]
    a_tf = dictionary.encode(x_td).dense()
    a_tf[0] = 0
    return a_tf


def test_features_come_ranked_over_all_dictionaries(model, dictionaries, tokens):
    found = prompt_features(model, dictionaries, tokens, top_k=40)
    peaks = {key: dense(model, dictionary, tokens).amax(0) for key, dictionary in dictionaries.items()}
    assert [f.score for f in found.features] == sorted((f.score for f in found.features), reverse=True)
    best = torch.cat(list(peaks.values())).topk(40).values
    torch.testing.assert_close(torch.tensor([f.score for f in found.features]), best)
    assert found.n_firing == sum(int((peak > 0).sum()) for peak in peaks.values())
    for feature in found.features:
        a_t = dense(model, dictionaries[feature.source], tokens)[:, feature.index]
        torch.testing.assert_close(torch.tensor(feature.values), a_t)
        assert (feature.peak_position, feature.peak_value) == (int(a_t.argmax()), float(a_t.max()))


@pytest.mark.parametrize("rank", ["max", "mean", "last"])
@pytest.mark.parametrize("positions", [None, [3, 4, 9]], ids=["all", "some"])
def test_ranks_look_at_the_positions_asked_for(model, dictionaries, tokens, rank, positions):
    key = "jumprelu"
    found = prompt_features(model, {key: dictionaries[key]}, tokens, rank=rank, positions=positions, top_k=10)
    a_tf = dense(model, dictionaries[key], tokens)[positions or slice(1, None)]
    score_f = {"max": a_tf.amax(0), "mean": a_tf.mean(0), "last": a_tf[-1]}[rank]
    torch.testing.assert_close(torch.tensor([f.score for f in found.features]), score_f.topk(10).values)


def test_maxima_put_dictionaries_on_one_scale(model, dictionaries, tokens):
    generator = torch.Generator().manual_seed(3)
    maxima = {key: (0.1 + 10 * torch.rand(128, generator=generator)).tolist() for key in dictionaries}
    maxima["topk"][:64] = [0.0] * 64
    for feature in prompt_features(model, dictionaries, tokens, maxima=maxima, top_k=60).features:
        maximum = maxima[feature.source][feature.index]
        assert feature.maximum == pytest.approx(maximum)
        assert feature.score == pytest.approx(feature.peak_value / maximum if maximum else 1.0)


def test_features_that_are_not_allowed_are_hidden_before_ranking(model, dictionaries, tokens):
    source = {"topk": dictionaries["topk"]}
    everything = prompt_features(model, source, tokens, top_k=128)
    allowed = [index % 2 == 0 for index in range(128)]
    even = prompt_features(model, source, tokens, top_k=128, allowed={"topk": allowed})
    assert [f.index for f in even.features] == [f.index for f in everything.features if f.index % 2 == 0]
    assert even.n_hidden == sum(f.index % 2 for f in everything.features)


def test_bos_counts_only_when_asked(model, dictionaries, tokens):
    source = {"relu": dictionaries["relu"]}
    for feature in prompt_features(model, source, tokens).features:
        assert feature.values[0] == 0
        assert feature.peak_position > 0
    with_bos = prompt_features(model, source, tokens, ignore_bos=False, top_k=128)
    assert any(feature.values[0] > 0 for feature in with_bos.features)


@pytest.mark.parametrize("key", ["topk", "jumprelu", "transcoder", "attention"])
def test_chosen_features_have_the_same_values(model, dictionaries, tokens, key):
    indices = [7, 100, 0]
    a_tm = feature_activations(model, dictionaries[key], tokens, indices)
    torch.testing.assert_close(a_tm, dense(model, dictionaries[key], tokens)[:, indices])
    assert feature_activations(model, dictionaries[key], tokens, indices, ignore_bos=False).shape == (len(tokens), 3)


@pytest.mark.parametrize("wrong", [{"rank": "best"}, {"positions": [999]}, {"positions": [0]}])
def test_what_cannot_be_ranked_is_refused(model, dictionaries, tokens, wrong):
    with pytest.raises(InvalidInput):
        prompt_features(model, dictionaries, tokens, **wrong)


def test_unknown_features_are_refused(model, dictionaries, tokens):
    with pytest.raises(UnknownFeature):
        feature_activations(model, dictionaries["topk"], tokens, [4096])
