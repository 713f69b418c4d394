import pytest
import torch

from inference.activations import spliced
from inference.errors import InvalidInput
from inference.generation import SteeringDiverged, generate
from inference.hook_points import FAMILIES
from inference.language_models import PromptTooLong
from inference.steering import Edit, hooks_for
from tests.tiny import CONTEXT_SIZE, TEXT

PROMPT = TEXT[:24]


def edit(strength=1.5, key="topk", feature=3):
    return Edit(dictionary_key=key, feature=feature, strength=strength, maximum=4.0)


def rows_of(tokens):
    rows = {}
    for token in tokens:
        rows.setdefault(token.row, []).append(token)
    return rows


def ids_of(row):
    return [token.token_id for token in row]


def uncached(model, tokens, n_tokens, hooks):
    """Return greedy ids and log-probabilities by running the whole text again for every token."""
    ids, chosen, logprobs = list(tokens.ids), [], []
    for _ in range(n_tokens):
        with spliced(model, hooks), torch.inference_mode():
            logprobs_v = model.module(input_ids=torch.tensor([ids])).logits[0, -1].log_softmax(-1)
        chosen.append(int(logprobs_v.argmax()))
        logprobs.append(float(logprobs_v.max()))
        ids.append(chosen[-1])
    return chosen, logprobs


@pytest.mark.parametrize(
    "edits", [[], [edit()], [edit(key="transcoder"), edit(key="attention")]], ids=["plain", "one", "two"]
)
def test_cached_generation_equals_uncached(model, dictionaries, edits):
    tokens = model.tokenize(PROMPT)
    row = list(generate(model, tokens, n_tokens=12, dictionaries=dictionaries, variants=[edits], temperature=0))
    expected_ids, expected_logprobs = uncached(model, tokens, 12, hooks_for(dictionaries, [edits], n_untouched=1))
    assert ids_of(row) == expected_ids[: len(row)]
    torch.testing.assert_close([t.logprob for t in row], expected_logprobs[: len(row)], atol=1e-4, rtol=1e-4)
    assert [token.position for token in row] == list(range(len(tokens), len(tokens) + len(row)))


@pytest.mark.parametrize("model", [name for name, family in FAMILIES.items() if family.causal], indirect=True)
def test_cached_generation_equals_uncached_in_every_family(model, dictionaries):
    tokens = model.tokenize(PROMPT)
    variants = [[], [edit()], [edit(key="transcoder")]]
    rows = rows_of(generate(model, tokens, n_tokens=10, dictionaries=dictionaries, variants=variants, temperature=0))
    for row, edits in enumerate(variants):
        expected_ids, expected_logprobs = uncached(model, tokens, 10, hooks_for(dictionaries, [edits], n_untouched=1))
        assert ids_of(rows[row]) == expected_ids[: len(rows[row])]
        torch.testing.assert_close(
            [t.logprob for t in rows[row]], expected_logprobs[: len(rows[row])], atol=1e-4, rtol=1e-4
        )


@pytest.mark.parametrize("temperature", [0, 1.0], ids=["greedy", "sampled"])
def test_a_row_alone_equals_a_row_among_many(model, dictionaries, temperature):
    tokens = model.tokenize(PROMPT)
    variants = [[], [edit(3.0)], [edit(2.0, "jumprelu", 7)], [edit(0.5, "relu", 1), edit(key="transcoder")]]
    settings = {"n_tokens": 15, "dictionaries": dictionaries, "temperature": temperature, "seed": 5}
    together = rows_of(generate(model, tokens, variants=variants, **settings))
    for row, variant in enumerate(variants):
        alone = list(generate(model, tokens, variants=[variant], **settings))
        assert ids_of(alone) == ids_of(together[row])
        torch.testing.assert_close([t.logprob for t in alone], [t.logprob for t in together[row]], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("temperature", [0, 1.3], ids=["greedy", "sampled"])
def test_strength_zero_repeats_the_default_row(model, dictionaries, temperature):
    tokens = model.tokenize(PROMPT)
    variants = [[], [edit(0.0)], [edit(8.0)]]
    rows = rows_of(
        generate(
            model, tokens, n_tokens=30, dictionaries=dictionaries, variants=variants, temperature=temperature, seed=2
        )
    )
    assert ids_of(rows[0]) == ids_of(rows[1])
    assert [t.logprob for t in rows[0]] == [t.logprob for t in rows[1]]
    assert ids_of(rows[0]) != ids_of(rows[2])


def test_a_seed_repeats_its_text_and_another_does_not(model):
    tokens = model.tokenize(PROMPT)
    first, again, other = (ids_of(generate(model, tokens, n_tokens=20, seed=seed)) for seed in (4, 4, 5))
    assert first == again != other


def test_sampling_follows_the_distribution(gpt2):
    tokens = gpt2.tokenize(PROMPT)
    with torch.inference_mode():
        p_v = gpt2.module(input_ids=gpt2.ids_bt(tokens)).logits[0, -1].softmax(-1)
    n = 400
    drawn = torch.tensor([next(iter(generate(gpt2, tokens, n_tokens=1, seed=seed))).token_id for seed in range(n)])
    best = p_v.topk(20).indices
    share = torch.isin(drawn, best).float().mean()
    expected = p_v[best].sum()
    assert abs(share - expected) < 4 * (expected * (1 - expected) / n).sqrt()


def test_top_p_keeps_to_the_nucleus(gpt2):
    tokens = gpt2.tokenize(PROMPT)
    with torch.inference_mode():
        p_v = gpt2.module(input_ids=gpt2.ids_bt(tokens)).logits[0, -1].softmax(-1)
    sorted_v, order_v = p_v.sort(descending=True)
    nucleus = set(order_v[: int((sorted_v.cumsum(0) < 0.3).sum()) + 1].tolist())
    drawn = {next(iter(generate(gpt2, tokens, n_tokens=1, seed=seed, top_p=0.3))).token_id for seed in range(60)}
    assert drawn <= nucleus
    assert len(drawn) > 1


def test_pieces_concatenate_to_the_decoded_text(model, dictionaries):
    tokens = model.tokenize(PROMPT)
    variants = [[], [edit(2.0)], [edit(-2.0)]]
    for seed in range(3):
        rows = rows_of(
            generate(
                model, tokens, n_tokens=30, dictionaries=dictionaries, variants=variants, seed=seed, temperature=2.0
            )
        )
        for row in rows.values():
            assert "".join(token.text_piece for token in row) == model.tokenizer.decode(ids_of(row))


def test_default_logprobs_are_those_of_the_unsteered_model(model, dictionaries):
    tokens = model.tokenize(PROMPT)
    rows = rows_of(
        generate(
            model, tokens, n_tokens=10, dictionaries=dictionaries, variants=[[], [edit(3.0)]], default_logprobs=True
        )
    )
    assert [t.default_logprob for t in rows[0]] == [t.logprob for t in rows[0]]
    ids = [*tokens.ids, *ids_of(rows[1])]
    with torch.inference_mode():
        logprobs_tv = model.module(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    for token in rows[1]:
        assert token.default_logprob == pytest.approx(float(logprobs_tv[token.position - 1, token.token_id]), abs=1e-4)
    assert {t.default_logprob for t in generate(model, tokens, n_tokens=3)} == {None}


def test_rows_end_by_length_context_or_eos(model, monkeypatch):
    tokens = model.tokenize(PROMPT)
    row = list(generate(model, tokens, n_tokens=4))
    assert [token.finish for token in row] == ["", "", "", "length"]
    full = list(generate(model, tokens, n_tokens=1000))
    if full[-1].finish == "context":
        assert full[-1].position == CONTEXT_SIZE - 1
    monkeypatch.setattr(model.module.generation_config, "eos_token_id", row[1].token_id)
    ended = list(generate(model, tokens, n_tokens=4))
    assert ended[-1].finish == "eos"
    assert ids_of(ended) == ids_of(row)[: len(ended)]


def test_rows_that_ended_leave_the_others_running(model, dictionaries, monkeypatch):
    tokens = model.tokenize(PROMPT)
    settings = {"n_tokens": 8, "dictionaries": dictionaries, "variants": [[], [edit(6.0)]], "temperature": 0}
    rows = rows_of(generate(model, tokens, **settings))
    only_first = next(i for i in ids_of(rows[0]) if i not in ids_of(rows[1]))
    monkeypatch.setattr(model.module.generation_config, "eos_token_id", only_first)
    ended = rows_of(generate(model, tokens, **settings))
    assert ended[0][-1].finish == "eos"
    assert ids_of(ended[1]) == ids_of(rows[1])


def test_generation_stops_when_asked_and_leaves_no_hooks(model, dictionaries):
    seen = []
    settings = {"n_tokens": 20, "dictionaries": dictionaries, "variants": [[edit()]]}
    for token in generate(model, model.tokenize(PROMPT), should_stop=lambda: len(seen) >= 3, **settings):
        seen.append(token)
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.module.modules())
    assert len(seen) == 3


def test_a_prompt_that_fills_the_context_is_refused(model):
    with pytest.raises(PromptTooLong) as caught:
        next(generate(model, model.tokenize("x " * 200, truncate=True), n_tokens=1))
    assert caught.value.details["limit"] == CONTEXT_SIZE - 1


def test_steering_that_breaks_the_numbers_says_so(model, dictionaries):
    with pytest.raises(SteeringDiverged):
        list(generate(model, model.tokenize(PROMPT), n_tokens=2, dictionaries=dictionaries, variants=[[edit(1e38)]]))


@pytest.mark.parametrize(
    "wrong",
    [{"temperature": -1}, {"temperature": float("nan")}, {"top_p": 0}, {"top_p": 1.1}, {"seed": -1}, {"seed": 2**70}],
)
def test_sampling_settings_are_checked(model, wrong):
    with pytest.raises(InvalidInput):
        next(generate(model, model.tokenize(PROMPT), n_tokens=1, **wrong))
