"""The sample of bands is that of the whole, however its firings come, and never holds a context twice in a bin."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.dashboards.bands import N_KEPT, BandSample
from inference.dashboards.bins import FINE_BINS, fine_bins
from inference.dashboards.corpus import mixed
from inference.dashboards.places import Places
from inference.dashboards.selection import Candidates

N_CONTEXTS, LENGTH, N_FEATURES = 60, 12, 2


def places_of(keys: np.ndarray) -> Places:
    token, key = np.arange(N_CONTEXTS * LENGTH), mixed(keys.astype(np.uint64))
    return Places(
        token_p=token,
        context_p=(token // LENGTH).astype(np.int32),
        position_p=(token % LENGTH).astype(np.int32),
        eligible_p=token // LENGTH % 7 != 3,
        key_p=key,
        lot_p=(key >> np.uint64(32)).astype(np.uint32),
    )


def firings(seed: int, most_keys: int) -> tuple[Places, np.ndarray, np.ndarray, np.ndarray]:
    """Return places and (feature, token, value) of firings of two features on every token."""
    rng = np.random.default_rng(seed)
    n = N_CONTEXTS * LENGTH
    feature, token = np.repeat(np.arange(N_FEATURES), n), np.tile(np.arange(n), N_FEATURES)
    return places_of(rng.integers(0, most_keys, n)), feature, token, rng.uniform(0.1, 8, len(token)).astype(np.float32)


def offer(sample: BandSample, places: Places, contexts: np.ndarray, feature, token, value):
    rows = np.flatnonzero(np.isin(token // LENGTH, contexts))
    drawn = rows[sample.offer(feature[rows], token[rows], value[rows], fine_bins(value[rows]), places)]
    return feature[drawn], token[drawn], value[drawn]


def kept(sample: BandSample) -> list[tuple]:
    rows = sample._best.kept()
    return list(zip(rows.group.tolist(), rows.context.tolist(), rows.position.tolist(), strict=True))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 99), st.sampled_from([40, 10_000]), st.lists(st.integers(0, N_CONTEXTS), max_size=6))
def test_sample_does_not_depend_on_order_or_cuts_and_survives_a_resume(seed, most_keys, cuts):
    places, feature, token, value = firings(seed, most_keys)
    whole = BandSample(range(N_FEATURES))
    offer(whole, places, np.arange(N_CONTEXTS), feature, token, value)
    streamed, resumed = BandSample(range(N_FEATURES)), BandSample(range(N_FEATURES))
    for contexts in np.split(np.random.default_rng(seed).permutation(N_CONTEXTS), sorted(cuts)):
        f, t, v = offer(streamed, places, contexts, feature, token, value)
        resumed.offer(f, t, v, fine_bins(v), places)
    assert kept(whole) == kept(streamed) == kept(resumed)


@given(st.integers(0, 99), st.sampled_from([40, 10_000]))
def test_a_bin_holds_the_lowest_lots_of_different_contexts_and_surroundings(seed, most_keys):
    places, feature, token, value = firings(seed, most_keys)
    sample = BandSample(range(N_FEATURES))
    offer(sample, places, np.arange(N_CONTEXTS), feature, token, value)
    lots, bins = sample.lots(feature, token, places), fine_bins(value)
    expected = []
    for code in range(N_FEATURES * FINE_BINS):
        rows = np.flatnonzero((feature * FINE_BINS + bins == code) & places.eligible_p[token])
        contexts, keys, found = set(), set(), 0
        for row in rows[np.lexsort((token[rows], lots[rows]))]:
            context, key = int(token[row]) // LENGTH, int(places.key_p[token[row]])
            if context not in contexts and key not in keys and found < N_KEPT:
                expected.append((code, context, int(token[row]) % LENGTH))
                keys.add(key)
                found += 1
            contexts.add(context)
    assert kept(sample) == expected


def test_scarce_bands_choose_first_and_contexts_are_shown_once():
    places = places_of(np.arange(N_CONTEXTS * LENGTH))
    sample = BandSample(range(N_FEATURES))
    # In every context the feature fires at 1 and at 0.6; in two it fires at 0.3 as well.
    contexts = np.arange(N_CONTEXTS)
    token = np.sort(np.concatenate([contexts * LENGTH + 1, contexts * LENGTH + 2, contexts[:2] * LENGTH + 3]))
    value = np.choose(token % LENGTH - 1, [1.0, 0.6, 0.3]).astype(np.float32)
    sample.offer(np.zeros(len(token), dtype=np.int64), token, value, fine_bins(value), places)
    chosen, band = sample.fill(Candidates.none(), np.ones(N_FEATURES, dtype=np.float32))
    assert np.bincount(band, minlength=6).tolist() == [0, 6, 6, 2, 0, 0]
    assert set(chosen.context[band == 3].tolist()) == {0, 1}
    assert len(np.unique(chosen.context)) == len(chosen)
