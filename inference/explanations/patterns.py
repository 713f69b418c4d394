"""From evidence to words: which pattern the evidence concentrates on, and a label for it.

A label says what a feature fires on (a token, a family of tokens, a class of characters) and, where that is
concentrated too, where: after, before, on which lines. A feature that fires on many things is named by its
surroundings, by the words near it, or, if the text goes on as it promotes, by what it says.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from inference.explanations.evidence import WINDOW_START, Evidence, Shares, is_blank

LONGEST = 79
FEW_FIRINGS = 5
# Shares of the evidence that a pattern must reach to be named.
_ONE, _FAMILY, _CLASS, _FEW, _PLACE, _SAYS = 0.5, 0.6, 0.65, 0.5, 0.55, 0.4
# One token may carry less where it stands far above the next, and a place may be named with "often" from here on.
_STANDS_OUT, _TIMES, _OFTEN = 0.35, 4, 0.33
# Examples from which on a common position in the window is no chance.
_MANY = 15
_SHORTEST_AFFIX = 2

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
    ("punctuation", lambda word: not is_blank(word) and not any(c.isalnum() or c == "\\" for c in word)),
    ("letters beyond ASCII", lambda word: not word.isascii() or bool(re.fullmatch(r"(\\x[0-9a-f]{2})+", word))),
    ("single letters", lambda word: len(word) == 1 and word.isalpha()),
    ("capitals", lambda word: len(word) > 1 and word.isupper()),
    ("capitalised words", lambda word: len(word) > 1 and word[0].isupper() and word[1:].islower()),
    ("names with underscores", lambda word: "_" in word),
)

_FAMILIES_OF: dict[str, list[str]] = {}
for _name, _members in FAMILIES.items():
    for _member in _members:
        _FAMILIES_OF.setdefault(_member, []).append(_name)


@lru_cache(1 << 16)
def _classes_of(word: str) -> frozenset[str]:
    """Return the names of the classes to which a word belongs."""
    return frozenset(name for name, belongs in CLASSES if belongs(word))


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
    places = _places(evidence, _PLACE)
    if not what and sum(share for _, share in evidence.says) >= _SAYS:
        what, kind = f"say {_quoted(_texts(evidence.says)[:3])}", "logits"
    if what:
        text, pattern = _placed(what, kind, places)
    elif places:
        pattern, text = places[0]
        if near := [word for word in _texts(evidence.near) if word not in text][:2]:
            text, pattern = _fitting(text, f", near {_quoted(near)}"), f"{pattern}+near"
    elif evidence.near:
        text, pattern = f"near {_quoted(_texts(evidence.near)[:3])}", "near"
    elif evidence.earlier:
        text, pattern = f"text with {_quoted(_texts(evidence.earlier)[:3])} before", "earlier"
    else:
        text, pattern = _loosely(evidence)
    if evidence.firing_count < FEW_FIRINGS:
        text = _fitting(
            text, " (fires once)" if evidence.firing_count == 1 else f" (fires {evidence.firing_count} times)"
        )
    return text, pattern


def is_loose(pattern: str) -> bool:
    """Tell whether a pattern says little: the strongest contexts may then say more."""
    return pattern in ("mixed", "pieces") or pattern.startswith("often")


def at_its_strongest(text: str) -> str:
    """Return a label that holds for the strongest contexts only, and says so."""
    return f"strongest: {text}"[:LONGEST]


def _what(evidence: Evidence) -> tuple[str, str]:
    """Return what carries the activation and the kind of that statement, or empty texts where nothing stands out."""
    tokens, peaks = evidence.tokens, evidence.peaks
    first, second = (*(share for _, share in tokens[:2]), 0.0, 0.0)[:2]
    if first >= _ONE or first >= max(_STANDS_OUT, _TIMES * second):
        return _named(tokens[0][0]), "token"
    family, members = _best_family(peaks)
    if members:
        return f"{family}: {_quoted(members[:3])}", "family"
    classes = [(pair, _classes_of(pair[0])) for pair in peaks if pair[0]]
    for name, _ in CLASSES:
        members = [pair for pair, belongs_to in classes if name in belongs_to]
        if members and sum(share for _, share in members) >= _CLASS:
            shown = [text for text, _ in members if not is_blank(text)][:3]
            return (f"{name}: {_quoted(shown)}" if shown else name), "class"
    if affix := _common_affix(peaks):
        return affix, "affix"
    if sum(share for _, share in tokens[:3]) >= _FEW:
        return _quoted(_texts(tokens)[:3]), "tokens"
    return "", ""


def _loosely(evidence: Evidence) -> tuple[str, str]:
    """Return the weakest statements: a place that is only common, pieces of words, or a few of many tokens."""
    examples = f"such as {_quoted(_texts(evidence.tokens)[:3])}"
    if places := _places(evidence, _OFTEN):
        pattern, phrase = places[0]
        return _fitting(f"often {phrase}", f", {examples}"), f"often {pattern}"
    if evidence.inside_word >= _CLASS:
        pieces = [text for text in _texts(evidence.peaks) if text.isalpha()][:3]
        return f"pieces of words, such as {_quoted(pieces)}", "pieces"
    return f"many tokens, {examples}", "mixed"


def _places(evidence: Evidence, least: float) -> list[tuple[str, str]]:
    """Return `(pattern, phrase)` of where the peaks are, the most concentrated first."""
    found = []
    if evidence.window_start >= least:
        found.append((evidence.window_start + 1, "window", "at the start of a text"))
    left = [pair for pair in evidence.left if pair[0] != WINDOW_START]
    for pattern, preposition, pairs in (("left", "after", left), ("next", "before", evidence.next)):
        if pairs and pairs[0][1] >= least:
            found.append((pairs[0][1], pattern, f"{preposition} {_named(pairs[0][0])}"))
    if evidence.line_start >= least + 0.15:
        found.append((evidence.line_start, "line start", "at the start of a line"))
    if evidence.line and evidence.line[0][1] >= least:
        word, share = evidence.line[0]
        found.append((share, "line", _LINES.get(word, f"on {_named(word)} lines")))
    if evidence.n_examples >= _MANY and evidence.last_position - evidence.first_position <= evidence.window // 8:
        found.append((_PLACE, "position", _position(evidence)))
    found.sort(key=lambda entry: -entry[0])
    return [(pattern, phrase) for _, pattern, phrase in found]


def _position(evidence: Evidence) -> str:
    first, last, window = evidence.first_position, evidence.last_position, evidence.window
    where = "early" if last <= window // 4 else "late" if first >= window * 3 // 4 else "always at the same place"
    return f"{where} in the window (tokens {first} to {last} of {window})"


def _best_family(peaks: Shares) -> tuple[str, list[str]]:
    """Return the family that holds most of the peaks and its members among them, none where it holds too few."""
    members: dict[str, list[tuple[str, float]]] = {}
    for pair in peaks:
        for name in _FAMILIES_OF.get(pair[0], ()):
            members.setdefault(name, []).append(pair)
    if not members:
        return "", []
    # Of equal ones the first in the table.
    name = max(
        (name for name in FAMILIES if name in members), key=lambda name: sum(share for _, share in members[name])
    )
    enough = sum(share for _, share in members[name]) >= _FAMILY and len(members[name]) > 1
    return name, _texts(members[name]) if enough else []


def _common_affix(peaks: Shares) -> str:
    """Return a phrase for the ending or the beginning of at least two letters that most peaks share."""
    peaks = tuple((text, share) for text, share in peaks if len(text) > _SHORTEST_AFFIX and text.isalpha())
    if len(peaks) < 3 or sum(share for _, share in peaks) < _CLASS - 1e-6:
        return ""
    for phrase, piece in (("words that end in", lambda w, n: w[-n:]), ("words that begin with", lambda w, n: w[:n])):
        for length in range(5, _SHORTEST_AFFIX - 1, -1):
            found: dict[str, list[float]] = {}
            for text, share in peaks:
                if len(text) > length:
                    found.setdefault(piece(text, length).lower(), []).append(share)
            for affix, shares in found.items():
                if sum(shares) >= _CLASS and len(shares) >= 3:
                    return f"{phrase} {_named(affix)}"
    return ""


def _placed(what: str, kind: str, places: list[tuple[str, str]]) -> tuple[str, str]:
    # A place that only repeats the token itself says nothing more, nor does what follows where that is what is said.
    for pattern, phrase in places:
        if what not in phrase and not (kind == "logits" and pattern == "next"):
            return _fitting(what, f" {phrase}"), f"{kind}+{pattern}"
    return what[:LONGEST], kind


def _fitting(text: str, more: str) -> str:
    return text + more if len(text + more) <= LONGEST else text[:LONGEST]


def _texts(shares: Shares) -> list[str]:
    return [text for text, _ in shares]


def _quoted(words: list[str] | tuple[str, ...]) -> str:
    return ", ".join(dict.fromkeys(_named(word) for word in words))


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
