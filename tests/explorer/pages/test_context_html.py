"""Token spans: text survives whole, multi-byte characters are shown once, marks are not text."""

import re
from dataclasses import replace
from html import unescape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explorer import patterns
from explorer.context_html import (
    activation_marks,
    example_html,
    live_tokens_html,
    marked_html,
    shown,
    snippet_html,
    source_marks,
    tokens_html,
)
from explorer.live_values import PromptToken, TracedToken


def visible(html: str) -> str:
    """Return the text that a browser would copy."""
    return unescape(re.sub(r"<[^>]*>", "", html))


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=6), min_size=1, max_size=30)
)
def test_copied_text_is_the_text(parts: list[str]):
    text = "".join(parts)
    ends = [sum(map(len, parts[: i + 1])) for i in range(len(parts))]
    starts = [end - len(part) for end, part in zip(ends, parts, strict=True)]
    fires = list(range(0, len(parts), 3))
    html = tokens_html(text, starts, ends, fires, [1.0] * len(fires), maximum=2.0, peak=len(parts) // 2)
    assert visible(html) == text
    assert html.count("<span") == html.count("</span")


@pytest.mark.parametrize("text", patterns.TEXTS)
def test_fixture_contexts_survive(text: str):
    html = example_html(patterns.example(text), patterns.MAXIMUM)
    assert visible(html) == text.replace("\x1b", "")


def test_tokens_that_share_a_character_are_one_element_with_the_strongest_value():
    html = tokens_html("a🦊b", [0, 1, 1, 1, 2], [1, 2, 2, 2, 3], [2, 3], [0.5, 2.0], maximum=2.0)
    assert html == '<i>a</i><i class="p20" data-v="2" data-n="3">🦊</i><i>b</i>'


def test_markup_in_text_is_escaped():
    html = tokens_html("<b>&", [0, 3], [3, 4], [0], [1.0], maximum=1.0)
    assert html == '<i class="p20" data-v="1">&lt;b&gt;</i><i>&amp;</i>'


def test_control_bytes_and_newlines_are_signs_outside_the_text():
    html = tokens_html("\n\x1b\t", [0, 1, 2], [1, 2, 3], [], [], maximum=1.0)
    assert '<s class="nl">\n</s>' in html
    assert '<s data-s="\\x1b"></s>' in html
    assert "\x1b" not in html


def test_negative_values_use_the_blue_ramp():
    assert 'class="n20"' in tokens_html("a", [0], [1], [0], [-3.0], maximum=3.0)


def test_segments_stand_around_the_peak():
    n = 200
    html = tokens_html("x" * n, range(n), range(1, n + 1), [100], [1.0], maximum=1.0, peak=100)
    order = re.findall(r'class="(before|far|mid|peak|after)"', html)
    assert order == ["before", "far", "mid", "peak", "after", "mid", "far"]
    near = html.split('class="mid">')[1].split("</span>")[1]
    assert near.count("<i>") == 16


def test_snippets_keep_the_peak():
    example = patterns.example(patterns.TEXTS[1] + patterns.TEXTS[3])
    html = snippet_html(example, patterns.MAXIMUM, reach=4)
    assert f'data-v="{patterns.MAXIMUM:.4g}"' in html
    assert html.count("<i") <= 9


def test_live_tokens_join_the_rest_of_a_character_and_name_bos():
    tokens = [
        PromptToken(position=0, token_id=0, text="", name="<|endoftext|>", is_bos=True),
        PromptToken(position=1, token_id=9, text=" 東", name="é"),
        PromptToken(position=2, token_id=8, text="", name="\ufffd"),
        PromptToken(position=3, token_id=7, text="x", name="x", selected=True),
    ]
    html = live_tokens_html(tokens, activation_marks(tokens, levels=[0, 3, 7, 0], values=[9.0, 0.1, 0.7, 0.0]))
    assert '<i class="bos" data-at="0" data-name="&lt;|endoftext|&gt;">' in html
    assert '<i class="p7 sp" data-at="1" data-v="0.7" data-n="2"> 東</i>' in html
    assert '<i class="in-selection" data-at="3">x</i>' in html


def test_sources_have_two_ramps_and_count_bos_and_every_token_of_a_character():
    tokens = [
        PromptToken(position=0, token_id=0, text="", name="<|endoftext|>", is_bos=True),
        PromptToken(position=1, token_id=9, text=" 東", name="é"),
        PromptToken(position=2, token_id=8, text="", name="\ufffd"),
        PromptToken(position=3, token_id=7, text="x", name="x"),
    ]
    traced = TracedToken(
        position=2,
        token="x",
        activation=1.0,
        pre_activation=1.0,
        sources=(2.0, -0.5, -0.25, 0.0),
        total=1.25,
        bias=-0.25,
        remainder=0.0,
        heads=(),
    )
    html = live_tokens_html(tokens, source_marks(tokens, traced), traced.position)
    assert '<i class="p20 bos" data-at="0" data-v="2"' in html
    assert '<i class="n12 sp destination" data-at="1" data-v="-0.75" data-n="2"> 東</i>' in html
    assert '<i data-at="3">x</i>' in html


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" raise", "·raise"),
        ("\n            ", "↵·×12"),
        ("\n            raise", "↵·×12 raise"),
        ("", "∅"),
        ("  ", "··"),
        ("a b", "a b"),
        ("\x00\t", "\\x00→"),
    ],
)
def test_chips_show_what_cannot_be_seen(text: str, expected: str):
    assert shown(text) == expected


def test_marks_surround_matches_and_escape_the_rest():
    assert marked_html("a<self>b", [(2, 6)]) == "a&lt;<mark>self</mark>&gt;b"


def test_silent_examples_have_no_values():
    silent = replace(patterns.example(patterns.TEXTS[0], group=6), positions=(), values=())
    assert "data-v" not in example_html(silent, patterns.MAXIMUM)
