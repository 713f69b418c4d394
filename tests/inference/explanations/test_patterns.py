"""Labels follow the evidence that concentrates most, and stay short."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.explanations.evidence import WINDOW_START, Evidence
from inference.explanations.patterns import LONGEST, describe

SELF = (("self", 0.9), ("cls", 0.05))
MANY = (("a", 0.05), ("qu", 0.04), ("z9", 0.03), ("(", 0.03))


def evidence(**counted):
    return Evidence(
        **{
            "n_tokens": 1_000_000,
            "firing_count": 500,
            "n_examples": 40,
            "token_entropy": 1.0,
            "window": 128,
            "last_position": 100,
        }
        | counted
    )


@pytest.mark.parametrize(
    ("counted", "text", "pattern"),
    [
        ({"firing_count": 0, "n_examples": 0}, "never fires in 1,000,000 tokens", "silent"),
        ({"firing_count": 1200, "n_examples": 0}, "fires 1,200 times, only in repeated text", "repeated"),
        ({"tokens": SELF, "peaks": SELF}, '"self"', "token"),
        ({"tokens": SELF, "peaks": SELF, "left": (("(", 0.8),)}, '"self" after "("', "token+left"),
        ({"tokens": SELF, "peaks": SELF, "next": ((".", 0.7),)}, '"self" before "."', "token+next"),
        ({"tokens": SELF, "peaks": SELF, "line": (("def", 0.9),)}, '"self" in function signatures', "token+line"),
        ({"tokens": SELF, "peaks": SELF, "line": (("with", 0.9),)}, '"self" on "with" lines', "token+line"),
        ({"tokens": SELF, "peaks": SELF, "line_start": 0.9}, '"self" at the start of a line', "token+line start"),
        ({"tokens": (("the", 0.4), ("a", 0.05)), "peaks": MANY}, '"the"', "token"),
        (
            {"tokens": (("import", 0.4), ("from", 0.3)), "peaks": (("import", 0.5), ("from", 0.3))},
            'import statements: "import", "from"',
            "family",
        ),
        ({"tokens": MANY, "peaks": (("12", 0.4), ("3.5", 0.3))}, 'numbers: "12", "3.5"', "class"),
        ({"tokens": MANY, "peaks": ((")", 0.4), ("])", 0.3))}, 'closing brackets: ")", "])"', "class"),
        ({"tokens": MANY, "peaks": (("\n    ", 0.5), ("\n", 0.3))}, "line breaks and indentation", "class"),
        (
            {"tokens": MANY, "peaks": (("running", 0.3), ("going", 0.3), ("ending", 0.2))},
            'words that end in "ing"',
            "affix",
        ),
        ({"tokens": (("x", 0.3), ("y1", 0.25), ("z", 0.1)), "peaks": MANY}, '"x", "y1", "z"', "tokens"),
        ({"tokens": MANY, "peaks": MANY, "says": (("None", 0.6),)}, 'say "None"', "logits"),
        (
            {"tokens": MANY, "peaks": MANY, "says": (("]", 0.6),), "left": (("[", 0.8),), "next": (("]", 0.9),)},
            'say "]" after "["',
            "logits+left",
        ),
        ({"tokens": MANY, "peaks": MANY, "left": (("import", 0.8),)}, 'after "import"', "left"),
        (
            {"tokens": MANY, "peaks": MANY, "left": (("import", 0.8),), "near": (("socket", 0.9), ("import", 0.6))},
            'after "import", near "socket"',
            "left+near",
        ),
        ({"tokens": MANY, "peaks": MANY, "window_start": 0.9}, "at the start of a text", "window"),
        ({"tokens": MANY, "peaks": MANY, "near": (("timeout", 0.8),)}, 'near "timeout"', "near"),
        ({"tokens": MANY, "peaks": MANY, "earlier": (("queue", 0.8),)}, 'text with "queue" before', "earlier"),
        (
            {"tokens": MANY, "peaks": MANY, "first_position": 118, "last_position": 127},
            "late in the window (tokens 118 to 127 of 128)",
            "position",
        ),
        (
            {"tokens": MANY, "peaks": MANY, "first_position": 2, "last_position": 9},
            "early in the window (tokens 2 to 9 of 128)",
            "position",
        ),
        (
            {"tokens": MANY, "peaks": MANY, "first_position": 2, "last_position": 9, "n_examples": 3},
            'many tokens, such as "a", "qu", "z9"',
            "mixed",
        ),
        (
            {"tokens": MANY, "peaks": MANY, "left": (("the", 0.4),)},
            'often after "the", such as "a", "qu", "z9"',
            "often left",
        ),
        ({"tokens": MANY, "peaks": MANY, "inside_word": 0.9}, 'pieces of words, such as "a", "qu"', "pieces"),
        ({"tokens": MANY, "peaks": MANY}, 'many tokens, such as "a", "qu", "z9"', "mixed"),
        ({"tokens": SELF, "peaks": SELF, "firing_count": 1}, '"self" (fires once)', "token"),
        ({"tokens": SELF, "peaks": SELF, "firing_count": 3}, '"self" (fires 3 times)', "token"),
    ],
)
def test_label(counted, text, pattern):
    assert describe(evidence(**counted)) == (text, pattern)


def test_place_that_repeats_the_token_is_left_out():
    same = (("\n", 0.9),)
    assert describe(evidence(tokens=same, peaks=same, left=(("\n\n", 0.9),)))[0] == "a line break"


def test_quotes_are_quoted_readably():
    quote = (('"', 0.9),)
    assert describe(evidence(tokens=quote, peaks=quote))[0] == "'\"'"


WORDS = st.text(min_size=1, max_size=40)
SHARES = st.lists(st.tuples(WORDS, st.floats(0, 1)), max_size=6).map(
    lambda pairs: tuple(sorted(pairs, key=lambda pair: -pair[1]))
)


@given(
    tokens=SHARES,
    peaks=SHARES,
    left=SHARES,
    next=SHARES,
    line=SHARES,
    near=SHARES,
    says=SHARES,
    inside_word=st.floats(0, 1),
    line_start=st.floats(0, 1),
    firing_count=st.integers(1, 10),
)
def test_any_evidence_gives_one_short_line(**counted):
    text, pattern = describe(evidence(**counted))
    assert 0 < len(text) <= LONGEST
    assert pattern


def test_window_start_is_no_token():
    counted = {"tokens": MANY, "peaks": MANY, "left": ((WINDOW_START, 0.9),)}
    assert describe(evidence(**counted))[1] == "mixed"
