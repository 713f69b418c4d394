"""What a pass measures besides, from the rows that it leaves to the cards that pages show."""

from __future__ import annotations

import numpy as np
import pytest

from features import packed_tokens, selectors
from features.models import Feature, TokenFeature
from inference.errors import NotFound


def test_a_token_leads_to_the_features_that_fire_most_on_it(world):
    source, dictionary = "1-res-topk", world.dictionaries["1-res-topk"]
    index = world.parts.result.dashboards[source].token_features
    blocks = TokenFeature.objects.filter(dictionary=dictionary).values_list("block", flat=True)
    assert {*blocks} == {token // packed_tokens.BLOCK for token in index.token_ids_v.tolist()}
    token = int(index.token_ids_v[index.occurrences_v.argmax()])
    found = selectors.token_features("tiny", source, token)
    assert found.occurrences == index.occurrences_v.max()
    strengths = [row.strength for row in found.features]
    assert strengths == sorted(strengths, reverse=True) and 0 < strengths[0] <= 1
    peaking = Feature.objects.get(dictionary=dictionary, index=found.features[0].index)
    if token in peaking.peak_token_ids:
        place = peaking.peak_token_ids.index(token)
        assert peaking.peak_token_counts[place] == found.features[0].count
    assert all(row.share == row.count / found.occurrences for row in found.features)


def test_the_index_of_tokens_equals_brute_force(world):
    """Expected activation on a token id as a share of the maximum, from the peak tokens of every feature."""
    board = world.parts.result.dashboards["1-res-topk"]
    index = board.token_features
    rows = {int(token): row for row, token in enumerate(index.token_ids_v)}
    checked = 0
    for feature in range(board.n_features):
        for token, share in zip(board.peak_token_ids_fk[feature], board.peak_token_shares_fk[feature], strict=True):
            if token < 0:
                continue
            row = rows[int(token)]
            mass = share * board.total_f[feature]
            strength = mass / (board.maximum_f[feature] * index.occurrences_v[row])
            kept = np.flatnonzero(index.feature_ids_vk[row] == feature)
            if len(kept):
                assert index.strengths_vk[row, kept[0]] == pytest.approx(strength, rel=1e-4)
                checked += 1
            else:
                assert strength <= index.strengths_vk[row].min() * 1.0001
    assert checked


def test_token_ids_that_a_model_lacks_are_said(world):
    with pytest.raises(NotFound, match="no token 99999"):
        selectors.token_features("tiny", "1-res-topk", 99_999)


def test_a_card_shows_both_shares_of_co_firing_and_scores_of_effects(world):
    board = world.parts.result.dashboards["1-res-topk"]
    feature = world.busiest()
    card = selectors.feature_card("tiny", "1-res-topk", feature)
    for place, row in enumerate(card.co_firing):
        both = board.co_firing_counts_fk[feature, place]
        assert row.share_here == pytest.approx(both / board.firing_count_f[feature], rel=2**-10)
        assert row.share_there == pytest.approx(both / board.firing_count_f[row.index], rel=2**-10)
    assert card.co_firing and card.encoder_neighbours and card.next_tokens
    assert card.promoted[0].z == pytest.approx(card.promoted[0].value / board.logit_deviation_f[feature], rel=1e-4)
