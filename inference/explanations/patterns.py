"""From evidence to words: which pattern the evidence concentrates on, and a label for it.

A label says what a feature fires on (a token, a family of tokens, a class of characters) and, where that is
concentrated too, where: after, before, on which lines. A feature that fires on many things is named by its
surroundings, by the words near it, or, if the text goes on as it promotes, by what it says.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from inference.explanations.evidence import WINDOW_START, Evidence, Shares, is_blank

LONGEST = 79
FEW_FIRINGS = 5
# Shares of the evidence that a pattern must reach to be named.
_ONE, _FAMILY, _CLASS, _FEW, _PLACE, _SAYS = 0.5, 0.6, 0.7, 0.5, 0.55, 0.4

# Families of tokens of which a label names the kind.
FAMILIES: dict[str, frozenset[str]] = {
    "import statements": frozenset({"import", "from"}),
    "definitions": frozenset({"def", "class", "async", "lambda"}),
    "conditions": frozenset({"if", "elif", "else", "unless", "case", "switch"}),
    "loops": frozenset({"for", "while", "break", "continue", "do"}),
    "errors": frozenset({"raise", "except", "try", "finally", "Error", "Exception", "throw", "catch", "ValueError",
                         "TypeError"}),
    "constants": frozenset({"None", "True", "False", "null", "true", "false", "nil"}),
    "the object itself": frozenset({"self", "cls", "this"}),
    "comparisons": frozenset({"==", "!=", "<", ">", "<=", ">=", "is", "not", "in"}),
    "logic": frozenset({"and", "or", "not", "&&", "||", "any", "all"}),
    "arithmetic": frozenset({"+", "-", "*", "/", "**", "//", "%", "+=", "-=", "@"}),
    "types": frozenset({"int", "str", "float", "bool", "list", "dict", "tuple", "bytes", "set", "object", "Any"}),
    "articles": frozenset({"a", "an", "the", "The", "A", "An"}),
    "prepositions": frozenset({"of", "in", "to", "for", "with", "on", "at", "by", "from", "into", "over", "under"}),
    "forms of to be": frozenset({"is", "are", "was", "were", "be", "been", "being"}),
    "modal verbs": frozenset({"can", "could", "may", "might", "must", "should", "will", "would", "shall"}),
    "pronouns": frozenset({"it", "its", "this", "that", "these", "those", "they", "he", "she", "we", "you", "I"}),
}  # fmt: skip

_OPENING, _CLOSING = frozenset("([{"), frozenset(")]}")
# Classes of tokens by their characters, tried in this order.
CLASSES: tuple[tuple[str, Callable[[str], bool]], ...] = (
    ("line breaks and indentation", lambda word: is_blank(word) and "\n" in word),
    ("spaces", is_blank),
    ("numbers", lambda word: bool(re.fullmatch(r"[\d.]*\d[\d.]*", word))),
    ("opening brackets", lambda word: not any(c.isalnum() for c in word) and word[-1] in _OPENING),
    ("closing brackets", lambda word: not any(c.isalnum() for c in word) and word[0] in _CLOSING),
    ("quotes", lambda word: not any(c.isalnum() for c in word) and any(c in "\"'`" for c in word)),
    ("punctuation", lambda word: not any(c.isalnum() or c == "\\" for c in word)),
    ("letters beyond ASCII", lambda word: not word.isascii() or bool(re.fullmatch(r"(\\x[0-9a-f]{2})+", word))),
    ("capitals", lambda word: len(word) > 1 and word.isupper()),
    ("capitalised words", lambda word: len(word) > 1 and word[0].isupper() and word[1:].islower()),
    ("names with underscores", lambda word: "_" in word),
)

_LINES = {
    "#": "in comments",
    "//": "in comments",
    "@": "in decorators",
    "def": "in function signatures",
    "class": "in class headers",
    "import": "in imports",
    "from": "in imports",
    ">>>": "in doctests",
}


def describe(evidence: Evidence) -> tuple[str, str]:
    """Return a label and the name of its pattern."""
    if not evidence.firing_count:
        return f"never fires in {evidence.n_tokens:,} tokens", "silent"
    if not evidence.n_examples:
        return f"fires {evidence.firing_count:,} times, only in repeated text", "repeated"
    what, kind = _what(evidence)
    places = _places(evidence)
    if what:
        text, pattern = _joined(what, places), "+".join([kind, *(name for name, _ in places[:1])])
    elif evidence.promoted_next >= _SAYS:
        text, pattern = f"say {_quoted(evidence.promoted[:3])}", "logits"
    elif places:
        text, pattern = places[0][1], places[0][0]
        if evidence.near:
            text, pattern = _fitting(text, f", near {_quoted(_texts(evidence.near)[:2])}"), f"{pattern}+near"
    elif evidence.near:
        text, pattern = f"near {_quoted(_texts(evidence.near)[:3])}", "near"
    else:
        text, pattern = f"many tokens, such as {_quoted(_texts(evidence.tokens)[:3])}", "mixed"
    if evidence.firing_count < FEW_FIRINGS:
        text = _fitting(
            text, " (fires once)" if evidence.firing_count == 1 else f" (fires {evidence.firing_count} times)"
        )
    return text, pattern


def _what(evidence: Evidence) -> tuple[str, str]:
    """Return what carries the activation and the kind of that statement, or empty texts where nothing stands out."""
    tokens = evidence.tokens
    if not tokens:
        return "", ""
    if tokens[0][1] >= _ONE:
        return _named(tokens[0][0]), "token"
    family, share = _best_family(tokens)
    if share >= _FAMILY:
        members = [text for text, _ in tokens if text in FAMILIES[family]]
        return f"{family}: {_quoted(members[:3])}", "family"
    for name, belongs in CLASSES:
        members = [(text, share) for text, share in tokens if text and belongs(text)]
        if sum(share for _, share in members) >= _CLASS * _known(tokens):
            shown = [text for text, _ in members if not is_blank(text)][:3]
            return (f"{name}: {_quoted(shown)}" if shown else name), "class"
    if affix := _common_affix(tokens):
        return affix, "affix"
    if sum(share for _, share in tokens[:3]) >= _FEW:
        return _quoted(_texts(tokens)[:3]), "tokens"
    return "", ""


def _places(evidence: Evidence) -> list[tuple[str, str]]:
    """Return `(pattern, phrase)` of where the peaks are, the most concentrated first."""
    found = []
    if evidence.window_start >= _PLACE:
        found.append((evidence.window_start + 1, "window", "at the start of a text"))
    left = [pair for pair in evidence.left if pair[0] != WINDOW_START]
    for pattern, preposition, pairs in (("left", "after", left), ("next", "before", evidence.next)):
        if pairs and pairs[0][1] >= _PLACE:
            found.append((pairs[0][1], pattern, f"{preposition} {_named(pairs[0][0])}"))
    if evidence.line_start >= _PLACE + 0.15:
        found.append((evidence.line_start, "line start", "at the start of a line"))
    if evidence.line and evidence.line[0][1] >= _PLACE:
        word, share = evidence.line[0]
        found.append((share, "line", _LINES.get(word, f"on {_named(word)} lines")))
    found.sort(key=lambda entry: -entry[0])
    return [(pattern, phrase) for _, pattern, phrase in found]


def _best_family(tokens: Shares) -> tuple[str, float]:
    known = max(_known(tokens), 1e-30)
    shares = [
        (sum(share for text, share in tokens if text in members) / known, name) for name, members in FAMILIES.items()
    ]
    share, name = max(shares, key=lambda pair: pair[0])
    distinct = sum(text in FAMILIES[name] for text, _ in tokens)
    return name, share if distinct > 1 else 0.0


def _common_affix(tokens: Shares) -> str:
    """Return a phrase for the ending or the beginning that most of the mass shares, of at least two letters."""
    known = _known(tokens)
    for phrase, piece in (("words that end in", lambda w, n: w[-n:]), ("words that begin with", lambda w, n: w[:n])):
        for length in (5, 4, 3, 2):
            masses: dict[str, float] = {}
            for text, share in tokens:
                if len(text) > length and text.isalpha():
                    key = piece(text, length).lower()
                    masses[key] = masses.get(key, 0.0) + share
            if masses:
                affix, mass = max(masses.items(), key=lambda pair: (pair[1], pair[0]))
                members = sum(text.isalpha() and piece(text, length).lower() == affix for text, _ in tokens)
                if mass >= _CLASS * known and members >= 3:
                    return f"{phrase} {_named(affix)}"
    return ""


def _known(tokens: Shares) -> float:
    """Return the share of activation mass that the listed tokens carry."""
    return sum(share for _, share in tokens)


def _joined(what: str, places: list[tuple[str, str]]) -> str:
    # A place that only repeats the token itself says nothing more.
    for _, phrase in places:
        if what not in phrase:
            return _fitting(what, f" {phrase}")
    return what[:LONGEST]


def _fitting(text: str, more: str) -> str:
    return text + more if len(text + more) <= LONGEST else text[:LONGEST]


def _texts(shares: Shares) -> list[str]:
    return [text for text, _ in shares]


def _quoted(words: list[str] | tuple[str, ...]) -> str:
    return ", ".join(_named(word) for word in words)


def _named(word: str) -> str:
    """Return a token as a label shows it: quoted, or in words where it is nothing but space."""
    if word == WINDOW_START:
        return "the start"
    if is_blank(word):
        if "\n" in word:
            return "a line break"
        return "a tab" if "\t" in word else "spaces"
    shown = word if len(word) <= 20 else f"{word[:19]}…"
    return f"'{shown}'" if '"' in shown else f'"{shown}"'
