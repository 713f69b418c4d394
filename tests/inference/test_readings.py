"""What is kept of texts: the same answers, no second pass, and no more bytes than may be kept."""

from contextlib import contextmanager

import pytest
import torch

from inference.activations import capture
from inference.prompts import feature_activations, prompt_features
from inference.readings import Readings
from tests.tiny import TEXT

OTHER = "def other(first, second):\n    return first - second\n"


@contextmanager
def passes(model):
    """Count the passes of a model's first block."""
    seen = []
    block = model.module.get_submodule(model.resolve("blocks.0.hook_resid_pre")[1].module)
    handle = block.register_forward_pre_hook(lambda *_: seen.append(None))
    yield seen
    handle.remove()


@pytest.mark.parametrize("key", ["topk", "jumprelu", "relu"])
def test_the_next_question_runs_no_model_and_answers_the_same(gpt2, dictionaries, key):
    readings, dictionary, tokens = Readings(10**8), dictionaries[key], gpt2.tokenize(TEXT)
    first = prompt_features(gpt2, {key: dictionary}, tokens, readings=readings)
    with passes(gpt2) as seen:
        again = prompt_features(gpt2, {key: dictionary}, tokens, rank="mean", readings=readings)
        kept_tm = feature_activations(gpt2, dictionary, tokens, [7, 100, 0], readings=readings)
        assert not seen
        fresh_tm = feature_activations(gpt2, dictionary, tokens, [7, 100, 0])
        assert len(seen) == 1
    assert again.n_firing == first.n_firing
    torch.testing.assert_close(kept_tm, fresh_tm, rtol=1e-6, atol=1e-6)
    assert torch.equal(kept_tm > 0, fresh_tm > 0)


def test_features_of_a_competition_are_looked_up_from_the_second_question_on(gpt2, dictionaries):
    readings, dictionary, tokens = Readings(10**8), dictionaries["topk"], gpt2.tokenize(TEXT)
    x_td = capture(gpt2, gpt2.ids_bt(tokens), [dictionary.hook_in])[dictionary.hook_in][0]
    a_tf = dictionary.encode(x_td).dense()
    for indices in ([0, 1, 2], list(range(40)), [127]):
        a_tm = feature_activations(gpt2, dictionary, tokens, indices, ignore_bos=False, readings=readings)
        torch.testing.assert_close(a_tm, a_tf[:, indices], rtol=1e-6, atol=1e-6)
    assert len(readings.kept.keys()) == 2, "one of the hook point, one of the scores to reach"


def test_another_text_and_another_model_are_read_for_themselves(models, dictionaries):
    readings, dictionary = Readings(10**8), dictionaries["topk"]
    for model in [models["gpt2"], models["gpt_neox"]]:
        for text in (TEXT, OTHER):
            tokens = model.tokenize(text)
            kept_tm = feature_activations(model, dictionary, tokens, [1, 5, 9], readings=readings)
            assert torch.equal(kept_tm, feature_activations(model, dictionary, tokens, [1, 5, 9]))
    assert len(readings.kept.keys()) == 8


def test_no_more_is_kept_than_may_be(gpt2, dictionaries):
    dictionary, tokens = dictionaries["jumprelu"], gpt2.tokenize(TEXT)
    text_bytes = 4 * len(tokens) * gpt2.d_model
    readings = Readings(3 * text_bytes)
    texts = [gpt2.tokenize(f"{number} {TEXT}", max_tokens=len(tokens), truncate=True) for number in range(6)]
    for text in texts:
        feature_activations(gpt2, dictionary, text, [3], readings=readings)
    assert readings.kept.n_bytes <= 3 * text_bytes
    with passes(gpt2) as seen:
        feature_activations(gpt2, dictionary, texts[-1], [4], readings=readings)
        assert not seen
        feature_activations(gpt2, dictionary, texts[0], [4], readings=readings)
        assert seen


def test_a_deeper_hook_point_runs_again_and_keeps_what_was_there(gpt2, dictionaries):
    readings, tokens = Readings(10**8), gpt2.tokenize(TEXT)
    names = ["blocks.0.hook_resid_post", "blocks.1.hook_resid_post"]
    shallow = readings.inputs(gpt2, tokens, names[:1])
    both = readings.inputs(gpt2, tokens, names)
    assert both[names[0]] is shallow[names[0]]
    torch.testing.assert_close(both[names[1]], capture(gpt2, gpt2.ids_bt(tokens), names)[names[1]][0])
