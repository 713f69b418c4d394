"""The state of live pages: what a URL says, and what it may not say."""

from __future__ import annotations

import pytest
from django.http import QueryDict
from hypothesis import given
from hypothesis import strategies as st

from explorer.live.events import order, parse_last_id
from explorer.live.sse import frame
from explorer.live_queries import EditQuery, PromptQuery, SteerQuery, check_text, parse_positions
from inference.errors import InvalidInput

EDITS = st.builds(
    EditQuery,
    source=st.from_regex(r"[0-9]-[a-z]{1,6}", fullmatch=True),
    index=st.integers(0, 10**6),
    strength=st.sampled_from([-2.0, 0.0, 0.5, 1.0, 12.25]),
)


@given(
    st.builds(
        PromptQuery,
        model=st.sampled_from(["", "facet-demo"]),
        sources=st.lists(st.from_regex(r"[0-9]-[a-z]{1,6}", fullmatch=True), unique=True, max_size=3).map(tuple),
        text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0")),
        rank=st.sampled_from(["max", "share", "mean"]),
        density=st.sampled_from([None, 0.0, 0.01, 1.0]),
        at=st.sampled_from(["", "3", "4-7,9"]),
        top=st.integers(1, 200),
        truncate=st.booleans(),
    )
)
def test_a_prompt_query_survives_its_url(query):
    assert PromptQuery.from_params(QueryDict(query.query_string())) == query


@given(
    st.builds(
        SteerQuery,
        model=st.sampled_from(["", "facet-demo"]),
        text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0")),
        edits=st.lists(EDITS, max_size=4).map(tuple),
        n_tokens=st.integers(1, 256),
        temperature=st.sampled_from([0.0, 0.7, 1.25]),
        top_p=st.sampled_from([0.5, 1.0]),
        seed=st.integers(0, 2**31 - 1),
        truncate=st.booleans(),
    )
)
def test_a_recipe_survives_its_url(query):
    assert SteerQuery.from_params(QueryDict(query.query_string())) == query


@pytest.mark.parametrize(
    "params",
    ["rank=best", "density=2", "density=low", "top=0", "top=nan", "at=x", "at=9-3", "at=0-99999"],
)
def test_a_prompt_query_with_a_wrong_control_is_refused(params):
    with pytest.raises(InvalidInput) as raised:
        PromptQuery.from_params(QueryDict(params))
    assert raised.value.remedy


@pytest.mark.parametrize(
    "params", ["f=none", "f=a/1@x", "f=a/1@1e9", "n=0", "t=-1", "p=0", "seed=-1", "f=a/1&strength=much"]
)
def test_a_recipe_with_a_wrong_control_is_refused(params):
    with pytest.raises(InvalidInput):
        SteerQuery.from_params(QueryDict(params))


def test_a_form_adds_a_feature_and_changes_strengths():
    query = SteerQuery.from_params(
        QueryDict("f=a/1@2&f=b/3&strength=4&strength=&add_source=c&add_index=5&add_strength=-1")
    )
    assert [str(edit) for edit in query.edits] == ["a/1@4", "b/3@1", "c/5@-1"]


def test_one_wrong_field_of_a_recipe_leaves_the_others():
    query, error = SteerQuery.read(QueryDict("f=a/1@2&f=none&f=b/3&strength=&strength=&strength=much&n=0&seed=7&t=0.3"))
    assert error is not None
    assert [str(edit) for edit in query.edits] == ["a/1@2", "b/3@1"]
    assert (query.n_tokens, query.seed, query.temperature) == (48, 7, 0.3)


def test_lines_of_text_fields_are_as_they_were_typed():
    assert PromptQuery.from_params(QueryDict("text=a%0D%0Ab")).text == "a\nb"


@pytest.mark.parametrize(
    "text", ["x", " ", "\n", "é" * 50_000, "tab\there", "\x1b[0m coloured", "one \ufffd in many words"]
)
def test_text_is_accepted(text):
    assert check_text(text) == text


@pytest.mark.parametrize("text", ["", "\0", "a\ud800b", "é" * 50_001, "\x01\x02\x03 binary"])
def test_text_is_refused(text):
    with pytest.raises(InvalidInput):
        check_text(text)


def test_positions():
    assert parse_positions("") is None
    assert parse_positions("4-6, 9,4") == (4, 5, 6, 9)


def test_frames():
    assert frame("run", "<p>\n</p>", id="1-0") == "id: 1-0\nevent: run\ndata: <p>\ndata: </p>\n\n"
    assert frame("end", "") == "event: end\ndata: \n\n"


def test_last_ids():
    assert parse_last_id("") == "0-0"
    assert parse_last_id("17-3") == "17-3"
    assert order("9-10") > order("9-9")
    with pytest.raises(InvalidInput):
        parse_last_id("$")
