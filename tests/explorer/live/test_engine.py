"""Live requests through Valkey and a real engine worker, against direct calls of the engine."""

from __future__ import annotations

import pytest

from explorer import asks
from explorer.live_queries import EditQuery, PromptQuery, SteerQuery
from inference.dictionaries import load_dictionary
from inference.errors import FacetError
from inference.language_models import load_language_model
from inference.prompts import feature_activations, prompt_features
from tests.explorer.world import MAXIMUM, N_TOKENS, SOURCES

TEXT = "def größe(naïve: str) -> str:\n    return '東京 🦊' + naïve"


@pytest.mark.parametrize("rank", ["max", "share", "mean"])
def test_a_prompt_equals_the_engine_called_directly(world, worker, folders, rank):
    result = asks.prompt_features(PromptQuery(model="tiny", text=TEXT, rank=rank, top=20, density=None))

    model = load_language_model(folders.model)
    dictionaries = {source: load_dictionary(folder) for source, folder in folders.dictionaries.items()}
    maxima = {source: [MAXIMUM] * 128 for source in SOURCES} if rank == "share" else None
    direct = prompt_features(
        model, dictionaries, model.tokenize(TEXT), top_k=20, rank="mean" if rank == "mean" else "max", maxima=maxima
    )
    assert [(f.source, f.index) for f in result.features] == [(f.source, f.index) for f in direct.features]
    assert [f.score for f in result.features] == pytest.approx([f.score for f in direct.features], rel=1e-4)
    assert [f.peak for f in result.features] == pytest.approx([f.peak_value for f in direct.features], rel=1e-4)
    assert result.n_firing == direct.n_firing
    assert "".join(token.text for token in result.tokens) == TEXT
    assert result.tokens[0].is_bos
    assert result.provenance.model == "tiny"


def test_the_density_filter_acts_before_the_ranking(world, worker):
    everything = asks.prompt_features(PromptQuery(model="tiny", text=TEXT, top=200, density=None))
    sparse = asks.prompt_features(PromptQuery(model="tiny", text=TEXT, top=200, density=0.05))

    kept = [(f.source, f.index) for f in everything.features if f.index / N_TOKENS <= 0.05]
    assert [(f.source, f.index) for f in sparse.features] == kept
    assert sparse.n_hidden == everything.n_firing - len(kept)
    assert (
        asks.prompt_features(PromptQuery(model="tiny", text=TEXT, top=3, density=0.05)).features
        == (sparse.features[:3])
    )


def test_positions_restrict_the_ranking(world, worker):
    result = asks.prompt_features(
        PromptQuery(model="tiny", sources=("1-res-topk",), text=TEXT, at="3", rank="max", density=None)
    )
    scores = {f.index: f.score for f in result.features}
    at_3 = {f.index: {v.position: v.value for v in f.values}.get(3) for f in result.features}
    assert scores == at_3
    assert len(scores) == 8  # k of the TopK dictionary
    assert [token.position for token in result.tokens if token.selected] == [3]


def test_the_test_box_equals_the_engine_called_directly(world, worker, folders):
    indices = [asks.prompt_features(PromptQuery(model="tiny", sources=("2-res-jump",), text=TEXT)).features[0].index, 5]
    tested = asks.test_texts(model="tiny", source="2-res-jump", indices=indices, text=TEXT)

    model = load_language_model(folders.model)
    dictionary = load_dictionary(folders.dictionaries["2-res-jump"])
    direct = feature_activations(model, dictionary, model.tokenize(TEXT), indices).T.tolist()
    for one, values in zip(tested, direct, strict=True):
        assert list(one.values) == pytest.approx(values, rel=1e-4)
        assert one.peak == pytest.approx(max(values), rel=1e-4)
        assert len(one.levels) == len(one.tokens)
    assert tested[0].share == pytest.approx(tested[0].peak / MAXIMUM)


def test_steering_with_strength_0_repeats_the_default_text(world, worker):
    query = SteerQuery(model="tiny", text="def f", edits=(EditQuery(source="1-res-topk", index=3, strength=0.0),))
    result = asks.steering_result(asks.start_steering(query))
    assert result.rows[0].text == result.rows[1].text
    assert result.first_difference is None
    assert len(result.rows[0].tokens) == 48


def test_steering_changes_the_text_and_a_seed_repeats_it(world, worker):
    query = SteerQuery(
        model="tiny", text="def f", n_tokens=16, seed=7, edits=(EditQuery(source="2-res-jump", index=3, strength=20),)
    )
    first, second = (asks.steering_result(asks.start_steering(query)) for _ in range(2))
    assert first.rows == second.rows
    assert first.rows[0].text != first.rows[1].text
    assert first.rows[1].tokens[first.first_difference].differs


def test_a_prompt_that_is_too_long_says_the_limit_and_can_be_cut(world, worker):
    query = PromptQuery(model="tiny", text="word " * 600)
    with pytest.raises(FacetError) as raised:
        asks.prompt_features(query)
    assert (raised.value.code, raised.value.status, raised.value.details["limit"]) == ("prompt-too-long", 413, 256)
    assert str(raised.value.details["n"]) in raised.value.cause
    assert asks.page_error(raised.value).offer_cut

    cut = asks.prompt_features(PromptQuery(model="tiny", text="word " * 600, truncate=True))
    assert len(cut.tokens) == 256
    assert cut.truncated_from == raised.value.details["n"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"text": ""}, "invalid-text"),
        ({"text": "a" * 100_001}, "text-too-large"),
        ({"text": "half \ud83e of a fox"}, "invalid-text"),
        ({"text": "PK\x03\x04\x00\x00binary"}, "invalid-text"),
        ({"model": "tinny"}, "unknown-address"),
        ({"sources": ("9-none",)}, "not-found"),
        ({"at": "900"}, "invalid-input"),
    ],
    ids=["empty", "large", "surrogate", "binary", "model", "source", "position"],
)
def test_bad_requests_are_refused_with_a_code(world, worker, change, code):
    query = {"model": "tiny", "text": "fine", "sources": (), "at": ""} | change
    with pytest.raises(FacetError) as raised:
        asks.prompt_features(PromptQuery(**query))
    assert raised.value.code == code
    assert raised.value.remedy
