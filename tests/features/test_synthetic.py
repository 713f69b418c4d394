"""The synthetic deployment: what it promises, the same from the same seed, and gone when it is removed."""

from io import StringIO

import numpy as np
import pytest
from django.core.management import call_command

from features import packed_examples, partitions, selectors
from features.models import (
    Context,
    Corpus,
    Dictionary,
    Example,
    Explanation,
    Feature,
    LanguageModel,
    Release,
    Tokenization,
)
from features.synthetic import text
from features.synthetic.deployment import Plan
from features.synthetic.measurements import dashboard
from inference.dashboards.results import BANDS, TOP
from inference.errors import Conflict, InvalidInput, NotFound


def synthesize(*arguments: object) -> str:
    out = StringIO()
    call_command("synthesize", *map(str, arguments), stdout=out)
    return out.getvalue()


@pytest.fixture
def small(db: None) -> None:
    synthesize("--features", 300, "--examples", 3000, "--width", 128, "--models", 2, "--processes", 1)


def made(seed: int = 0):
    contexts = text.contexts(seed=seed, n_contexts=200, with_text=True)
    return dashboard(source="0-s", seed=seed, dictionary=0, n_features=400, per_feature=20, contexts=contexts), contexts


def test_it_has_the_size_that_was_asked_for(small):
    assert sorted(Dictionary.objects.values_list("n_features", flat=True)) == [44, 128, 128]
    assert Feature.objects.count() == 300
    alive = Feature.objects.alive().count()
    rows = Example.objects.values_list("packed", flat=True)
    assert [len(packed_examples.unpack(packed)) for packed in rows] == [10] * alive
    assert Explanation.objects.count() == alive
    assert Context.objects.count() == 2 * Plan(n_features=300, n_examples=3000, n_models=2).contexts_per_model


def test_its_pages_say_that_it_is_made_up(small):
    dictionary = Dictionary.objects.select_related("model").first()
    index = Feature.objects.of(dictionary.pk).alive().values_list("index", flat=True)[0]
    card = selectors.feature_card(dictionary.model.slug, dictionary.source, index)
    assert "synthetic" in card.flags
    assert card.source.release == "synthetic"
    assert "made up" in card.source.precision
    groups = selectors.example_groups(dictionary.pk, index, 10)
    assert {group.code for group in groups} >= {TOP, *BANDS}
    for group in groups:
        for example in group.examples:
            assert example.text[example.starts[5] : example.ends[5]] == text.vocabulary()[example.token_ids[5]]


def test_a_second_one_is_refused_and_the_first_leaves_no_trace(small):
    with pytest.raises(Conflict):
        synthesize("--features", 300, "--examples", 3000)
    made = [
        part
        for dictionary in Dictionary.objects.all()
        for part in (partitions.features_of(dictionary.pk), partitions.examples_of(dictionary.pk))
    ]
    made += [partitions.contexts_of(tokenization.pk) for tokenization in Tokenization.objects.all()]
    assert len(made) > 6 and all(map(partitions.exists, made))
    assert synthesize("--remove").startswith("3 synthetic dictionaries removed")
    for model in (Dictionary, Explanation, LanguageModel, Corpus, Release, Feature, Example, Context):
        assert not model.objects.exists()
    assert not any(map(partitions.exists, made))
    with pytest.raises(NotFound):
        synthesize("--remove")


@pytest.mark.parametrize(
    "arguments", [("--features", 0), ("--width", 1), ("--explained", 2), ("--features", 10, "--examples", 10_000)]
)
def test_a_size_that_cannot_be_is_refused(db, arguments):
    with pytest.raises(InvalidInput):
        synthesize(*arguments)
    assert not Release.objects.exists()


def test_the_same_seed_makes_the_same_rows_and_another_seed_others():
    (one, _), (again, _), (other, _) = made(), made(), made(1)
    assert (one.firing_count_f == again.firing_count_f).all()
    assert (one.examples.positions_s == again.examples.positions_s).all()
    assert not np.array_equal(one.firing_count_f, other.firing_count_f)
    explained = np.arange(5)
    texts = [[row.text for row in text.explanations(seed=0, dictionary=0, explained=explained)] for _ in range(2)]
    assert texts[0] == texts[1]


def test_what_it_says_of_a_feature_agrees_with_itself():
    one, contexts = made()
    alive_f = one.firing_count_f > 0
    assert 0 < one.dead < 40
    assert one.dead == (~alive_f).sum()
    assert (one.log_histogram_fb.sum(axis=1) == one.firing_count_f).all()
    assert np.allclose(one.band_count_fb.sum(axis=1), one.firing_count_f, rtol=0.05)
    examples = one.examples
    for row in range(0, len(examples), 37):
        positions, values = examples.recorded(row)
        code = int(examples.group_x[row])
        assert list(positions) == sorted(set(positions))
        assert positions.size == 0 or 0 < positions.min() <= positions.max() < text.CONTEXT_SIZE
        if code in BANDS:
            low, high = BANDS[code]
            share = examples.peak_value_x[row] / one.maximum_f[examples.feature_x[row]]
            assert low < share <= high
            assert np.isclose(values[positions == examples.peak_position_x[row]], examples.peak_value_x[row], rtol=1e-2)
    for ids_fk in (one.peak_token_ids_fk, one.promoted_ids_fk, one.decoder_neighbour_ids_fk):
        assert all(len(set(ids[ids >= 0])) == (ids >= 0).sum() for ids in ids_fk)
    assert one.peak_token_ids_fk.max() < text.N_VOCABULARY
    assert len(contexts) == one.n_contexts
