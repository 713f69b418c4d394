"""What the engine answers, without a worker: values are those of the core, and what does not fit is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from inference.dictionaries import read_config
from inference.errors import Conflict, InvalidInput
from inference.language_models import PromptTooLong
from inference.serving import DictionarySpec, Engine, ModelSpec, Scales, _all_rounded, _rounded
from tests.tiny import CONTEXT_SIZE, TEXT, tiny_dictionary, tiny_model

N_FEATURES = 128
SAMPLING = {"temperature": 1.0, "top_p": 1.0, "seed": 5, "truncate": False}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return ModelSpec(slug="tiny", path=str(tiny_model(tmp_path_factory.mktemp("model"))), revision=None)


@pytest.fixture(scope="module")
def dictionary(tmp_path_factory):
    folder = tiny_dictionary(tmp_path_factory.mktemp("dictionary"), d_sae=N_FEATURES, source="1-res-topk")
    scales = Scales(
        maxima=np.full(N_FEATURES, 4, np.float32), densities=np.linspace(0, 1, N_FEATURES, dtype=np.float32)
    )
    return DictionarySpec(source="1-res-topk", path=str(folder), sha256=read_config(folder).sha256, scales=scales)


@pytest.fixture(scope="module")
def engine():
    return Engine(worker="w", capacity_bytes=10**9, device="cpu")


def ask(engine, model, dictionary, **changes):
    controls = {"text": TEXT, "rank": "max", "density": None, "positions": None, "top": 50, "truncate": False}
    return engine.prompt_features(model, [dictionary], **controls | changes)


def generate(engine, model, dictionary, *, strength=0.0, n_tokens=8, stop_reason=lambda: None, **changes):
    edits = [{"source": "1-res-topk", "index": 3, "strength": strength}]
    controls = {"text": "def f", "edits": edits, "n_tokens": n_tokens} | SAMPLING | changes
    return list(engine.generate(model, {"1-res-topk": dictionary}, stop_reason=stop_reason, **controls))


def test_an_answer_is_json(engine, model, dictionary):
    answer = ask(engine, model, dictionary)
    assert json.loads(json.dumps(answer)) == answer
    assert answer["tokens"]["text"] == TEXT
    assert len(answer["tokens"]["names"]) == len(answer["tokens"]["ids"])
    assert all(0 not in feature["positions"] for feature in answer["features"]), "BOS is not counted"


def test_rounding_many_numbers_is_rounding_each():
    generator = np.random.default_rng(0)
    values = (generator.standard_normal(20_000) * 10.0 ** generator.integers(-12, 9, 20_000)).astype(np.float32)
    values[:5] = [0, 1, 999.995, 0.1, 123456.7]
    assert _all_rounded(values) == [_rounded(value) for value in values.tolist()]
    assert _all_rounded(values[:6].reshape(2, 3)) == [_all_rounded(values[:3]), _all_rounded(values[3:6])]


def test_what_is_kept_of_texts_is_part_of_the_capacity(model, dictionary):
    engine = Engine(worker="w", capacity_bytes=10**9, device="cpu")
    assert engine.held.capacity_bytes + engine.readings.kept.capacity_bytes == 10**9
    first, again = (ask(engine, model, dictionary) for _ in range(2))
    assert first["features"] == again["features"]
    assert engine.readings.kept.keys()


def test_share_is_the_peak_over_the_maximum(engine, model, dictionary):
    for feature in ask(engine, model, dictionary, rank="share")["features"]:
        assert feature["score"] == pytest.approx(feature["peak"] / 4, rel=1e-4)


def test_mean_counts_silent_tokens_and_not_bos(engine, model, dictionary):
    answer = ask(engine, model, dictionary, rank="mean")
    n = len(answer["tokens"]["ids"]) - 1
    for feature in answer["features"]:
        assert feature["mean"] == pytest.approx(sum(feature["values"]) / n, rel=1e-3)
        assert feature["score"] == pytest.approx(feature["mean"], rel=1e-3)


def test_dense_features_leave_room_for_others(engine, model, dictionary):
    everything = ask(engine, model, dictionary, top=N_FEATURES)
    limit = 0.5
    kept = [f["index"] for f in everything["features"] if dictionary.scales.densities[f["index"]] <= limit]
    for top in (1, len(kept)):
        answer = ask(engine, model, dictionary, density=limit, top=top)
        assert [f["index"] for f in answer["features"]] == kept[:top]
        assert answer["n_hidden"] == everything["n_firing"] - len(kept)


def test_a_position_beyond_the_text_is_refused(engine, model, dictionary):
    with pytest.raises(InvalidInput, match="no position 63"):
        ask(engine, model, dictionary, text="def f", positions=[63])


def test_a_long_text_is_refused_or_cut(engine, model, dictionary):
    with pytest.raises(PromptTooLong) as raised:
        ask(engine, model, dictionary, text="word " * 300)
    answer = ask(engine, model, dictionary, text="word " * 300, truncate=True)
    assert answer["truncated_from"] == raised.value.details["n"]
    assert len(answer["tokens"]["ids"]) == CONTEXT_SIZE


def test_cutting_leaves_room_for_new_tokens(engine, model, dictionary):
    events = generate(engine, model, dictionary, text="word " * 300, truncate=True, n_tokens=16)
    assert len(events[0][1]["tokens"]["ids"]) == CONTEXT_SIZE - 16
    assert len(events[-1][1]["rows"][0]["tokens"]) == 16


def test_strength_0_repeats_the_default_row(engine, model, dictionary):
    *_, (name, done) = generate(engine, model, dictionary)
    assert name == "done"
    assert done["rows"][0] == done["rows"][1]
    assert (done["first_difference"], done["stopped"]) == (None, "length")


def test_events_say_where_the_rows_differ(engine, model, dictionary):
    events = generate(engine, model, dictionary, strength=30.0, n_tokens=12)
    tokens = [data for name, data in events if name == "token"]
    done = events[-1][1]
    by_row = [[token for token in tokens if token["row"] == row] for row in (0, 1)]
    differing = [b["index"] for a, b in zip(*by_row, strict=True) if a["id"] != b["id"]]
    assert [token["index"] for token in by_row[1] if token["differs"]] == differing
    assert done["first_difference"] == differing[0]
    assert "".join(token["text"] for token in by_row[1]) == done["rows"][1]["text"]


def test_a_stop_ends_with_what_there_is(engine, model, dictionary):
    answers = iter([None, None, "cancelled"])
    done = generate(engine, model, dictionary, stop_reason=lambda: next(answers))[-1][1]
    assert (done["stopped"], len(done["rows"][0]["tokens"])) == ("cancelled", 2)


def test_weights_that_changed_are_refused(engine, model, dictionary):
    other = DictionarySpec(source="1-res-topk", path=dictionary.path, sha256="0" * 64, scales=dictionary.scales)
    with pytest.raises(Conflict, match="not those that were added"):
        ask(engine, model, other)


def test_strengths_need_a_maximum(engine, model, dictionary):
    unbuilt = DictionarySpec(source="1-res-topk", path=dictionary.path, sha256=dictionary.sha256, scales=None)
    with pytest.raises(InvalidInput, match="not built"):
        generate(engine, model, unbuilt)


def test_models_and_dictionaries_are_held_and_let_go(model, dictionary):
    engine = Engine(worker="w", capacity_bytes=1, device="cpu")
    ask(engine, model, dictionary)
    held = engine.held.keys()
    assert [kind for kind, *_ in held] == ["dictionary"]
