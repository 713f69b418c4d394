"""Intervals and moments, against their definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.services.dashboards import MAX_L0_BINS, tokens_by_l0
from features.statistics import moments, wilson_interval
from features.words import fold, slugify, storable


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (1, 1_000_000, 1.765e-7, 5.665e-6)],
)
def test_wilson_intervals(successes, n, low, high):
    assert wilson_interval(successes, n) == pytest.approx((low, high), rel=1e-3)


@given(st.integers(1, 10**9).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_an_interval_holds_its_share(pair):
    successes, n = pair
    low, high = wilson_interval(successes, n)
    assert 0 <= low <= successes / n <= high <= 1
    assert high > low


def test_an_interval_of_nothing_is_everything():
    assert wilson_interval(0, 0) == (0, 1)


@given(st.lists(st.floats(0.01, 100), min_size=4, max_size=50))
def test_moments_are_those_of_the_values(values):
    x = np.array(values)
    found = moments(len(x), *((x**power).sum() for power in (1, 2, 3, 4)))
    assert found.mean == pytest.approx(x.mean())
    assert found.deviation == pytest.approx(x.std(), abs=1e-4 * x.max())
    if x.std() > 0.05 * x.mean():
        z = (x - x.mean()) / x.std()
        assert found.skewness == pytest.approx((z**3).mean(), rel=1e-3, abs=1e-3)
        assert found.kurtosis == pytest.approx((z**4).mean() - 3, rel=1e-3, abs=1e-2)


def test_values_that_do_not_differ_have_no_shape():
    assert moments(5, 10.0, 20.0, 40.0, 80.0) == (2.0, 0.0, None, None)
    assert moments(0, 0.0, 0.0, 0.0, 0.0) == (0.0, 0.0, None, None)


@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_stored_text_keeps_its_offsets(text):
    stored = storable(text)
    assert len(stored) == len(text)
    assert "\0" not in stored
    stored.encode()


@pytest.mark.parametrize(
    ("name", "slug"), [("My Model 2", "my-model-2"), ("gemma-2_2b.it", "gemma-2-2b-it"), ("東京", ""), ("--", "")]
)
def test_slugs(name, slug):
    assert slugify(name) == slug


def test_tokens_are_compared_without_space_and_case():
    assert fold(" Straße\n") == "strasse"


@pytest.mark.parametrize("lengths", [[32] * 10, [0, 3, 3, 9], list(range(400)), [7, 5000]])
def test_tokens_by_l0_are_all_counted_where_they_are(lengths):
    found = tokens_by_l0(np.bincount(lengths))
    assert len(found["counts"]) <= MAX_L0_BINS and sum(found["counts"]) == len(lengths)
    edges = found["first"] + found["width"] * np.arange(len(found["counts"]) + 1)
    assert np.array_equal(found["counts"], np.histogram(lengths, np.append(edges[:-1], np.inf))[0])
    assert edges[-1] > max(lengths)


def test_no_tokens_have_no_l0():
    assert tokens_by_l0(np.zeros(0, dtype=np.int64))["counts"] == []
