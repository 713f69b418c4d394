"""JSON of explanations: packed, it is small, comes back as it was, and is refused where it is damaged."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features import packed_json
from features.models import Explanation
from features.selectors.feature_cards import explanation_cards
from features.services import explanations
from features.services.explanations import MethodExplanation
from features.words import storable_value
from inference.explanations import explain
from inference.packing import BadBytes

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
STORABLE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@given(st.dictionaries(STORABLE, VALUES.filter(lambda value: json.dumps(value).find("\\u0000") < 0), max_size=4))
def test_what_was_packed_comes_back(value):
    packed = packed_json.pack(value)
    assert packed_json.unpack(packed) == json.loads(json.dumps(value).encode(errors="replace"))
    assert packed == packed_json.pack(dict(value))


def test_evidence_takes_less_than_half_of_its_json(parts):
    board = parts.result.dashboards["1-res-topk"]
    found = [dict(one.evidence) for one in explain(board, parts.facts.vocabulary, parts.result.contexts)]
    plain = sum(len(json.dumps(evidence)) for evidence in found)
    assert sum(len(packed_json.pack(evidence)) for evidence in found) < plain / 2
    assert packed_json.pack({}) == b""


def test_the_same_evidence_is_read_by_models_and_by_pages_and_no_change_is_none(world, user):
    dictionary, index = world.dictionaries["1-res-topk"].pk, world.busiest()
    evidence = {"pattern": "token", "tokens": [["a\u2028 \0", 0.5]], "strongest": {"window": 8}}
    for _ in range(2):
        explanations.add(dictionary=dictionary, method="m", explanations=[MethodExplanation(index, "a", evidence)])
    row = Explanation.objects.get(dictionary=dictionary, index=index, method="m")
    assert row.evidence == storable_value(evidence)
    [card] = [card for card in explanation_cards(dictionary, index, None) if card.method == "m"]
    assert card.evidence == row.evidence and card.created_at == row.created_at
    explanations.label(dictionary=dictionary, index=index, text="mine", user=user)
    assert Explanation.objects.get(author=user).evidence == {}


@pytest.mark.parametrize(
    "damaged",
    [
        lambda data: data[:-3],
        lambda data: data + b"more",
        lambda data: b"\x07" + data[1:],
        lambda data: data[:1] + bytes(len(data) - 1),
        lambda data: b"\x01",
    ],
)
def test_damaged_bytes_are_refused(damaged):
    with pytest.raises(BadBytes):
        packed_json.unpack(damaged(packed_json.pack({"pattern": "token", "tokens": [["a", 0.5]]})))
