"""The language of the search box: free words, quotes, and typed chips.

    assertEqual                    explanations, peak tokens, promoted tokens and contexts
    "capital of"                   words in order
    label:date ctx:"import os"     words of explanations; words of a feature's top contexts
    tok:def promotes:" return"     tokens that a feature peaks on, or promotes: up to case and white space around
                                   them, exactly where white space is in the quotes; "\\n" and "\\t" are such
    density:<1% density:0.1%-2%    share of tokens where a feature fires
    layer:2 layer:1-3              layers of the dictionaries
    -raise -"capital of"           no explanation of the feature, and no context, has it

Chips restrict every kind of evidence. All terms are joined by AND, but a feature is also found by its tokens where it
peaks on, or promotes, one of several free words; there is no OR. What looks like an operator or a chip and is none is
reported, not looked for; in quotes it is text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from features.words import storable

MAX_LENGTH = 500
MAX_TERMS = 12
CHIPS = ("label", "ctx", "tok", "promotes", "density", "layer")
OPERATORS = ("AND", "OR", "NOT")
_CHIP = "|".join(CHIPS)
# A space may follow the colon of a chip, `tok: def`; a dash before anything but a letter or a quote is text, `-> int`.
_TERM = re.compile(
    rf"""(?P<minus>-(?=[^\W\d]|"))?"""
    rf"""(?:(?P<chip>(?i:{_CHIP})):\s*|(?P<other>[A-Za-z]+):(?=[\w"<>=]))?"""
    r"""(?:"(?P<quoted>[^"]*)"?|(?P<bare>\S+))"""
)
_BARE_CHIPS = tuple(f"{chip}:" for chip in CHIPS)
_LAYERS = re.compile(r"(\d{1,4})(?:-(\d{1,4}))?")
_BOUND = re.compile(r"(?P<op><=?|>=?)?(?P<number>\d+(?:\.\d*)?|\.\d+)(?P<percent>%)?")
_RANGE = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(%)?-(\d+(?:\.\d*)?|\.\d+)(%)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A parsed query. Phrases of each kind are joined by AND; densities are shares; layers are first and last."""

    text: str
    words: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    contexts: tuple[str, ...] = ()
    tokens: tuple[str, ...] = ()
    promotes: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    density_low: float | None = None
    density_high: float | None = None
    layers: tuple[int, int] | None = None
    ignored: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        phrases = self.words or self.labels or self.contexts or self.tokens or self.promotes
        return not (phrases or self.has_density or self.layers)

    @property
    def has_density(self) -> bool:
        return self.density_low is not None or self.density_high is not None

    def describe(self) -> tuple[str, ...]:
        """Say how the query was understood, one phrase a term."""
        terms = [f"“{word}”" for word in self.words]
        terms += [f"explained as “{label}”" for label in self.labels]
        terms += [f"has “{context}” in a top context" for context in self.contexts]
        terms += [f"peaks on “{token}”" for token in self.tokens]
        terms += [f"promotes “{token}”" for token in self.promotes]
        if self.density_low is not None:
            terms.append(f"density at least {self.density_low:.3g}")
        if self.density_high is not None:
            terms.append(f"density at most {self.density_high:.3g}")
        if self.layers is not None:
            first, last = self.layers
            terms.append(f"layer {first}" if first == last else f"layers {first} to {last}")
        terms += [f"without “{word}”" for word in self.excluded]
        return tuple(terms)


def parse(text: str) -> Query:
    """Parse what was typed; nothing is an error: what cannot be understood is listed in `ignored`."""
    cut = storable(text)[:MAX_LENGTH]
    found: dict[str, list[str]] = {"words": [], "label": [], "ctx": [], "tok": [], "promotes": [], "excluded": []}
    low = high = layers = None
    ignored = [] if len(text) <= MAX_LENGTH else [f"beyond {MAX_LENGTH} characters"]
    for number, match in enumerate(_TERM.finditer(cut)):
        chip, value = (match["chip"] or "").lower(), match["bare"] if match["quoted"] is None else match["quoted"]
        written = match[0]
        if number >= MAX_TERMS:
            ignored.append(f"beyond {MAX_TERMS} terms")
            break
        if not value or written in OPERATORS or match["other"] or (match["minus"] and chip):
            ignored.append(written)
        elif match["minus"]:
            found["excluded"].append(value)
        elif chip == "density" and (bounds := _density(value)):
            low, high = _tighter(low, bounds[0], max), _tighter(high, bounds[1], min)
        elif chip == "layer" and (span := _LAYERS.fullmatch(value)):
            first, last = sorted((int(span[1]), int(span[2] or span[1])))
            layers = (first, last) if layers is None else (max(first, layers[0]), min(last, layers[1]))
        elif chip in ("density", "layer") or (not chip and value.lower() in _BARE_CHIPS and match["quoted"] is None):
            ignored.append(written)
        else:
            found[chip or "words"].append(value)
    query = Query(
        text=storable(text),
        words=tuple(dict.fromkeys(found["words"])),
        labels=tuple(dict.fromkeys(found["label"])),
        contexts=tuple(dict.fromkeys(found["ctx"])),
        tokens=tuple(dict.fromkeys(found["tok"])),
        promotes=tuple(dict.fromkeys(found["promotes"])),
        excluded=tuple(dict.fromkeys(found["excluded"])),
        density_low=low,
        density_high=high,
        layers=layers,
        ignored=tuple(ignored),
    )
    if not (query.is_empty and query.excluded):
        return query
    # Everything but a word is no search.
    return replace(query, excluded=(), ignored=(*ignored, *(f"only -{word}" for word in query.excluded)))


def _density(value: str) -> tuple[float | None, float | None] | None:
    if match := _RANGE.fullmatch(value):
        low, low_percent, high, high_percent = match.groups()
        # `0.1-2%` means percent on both sides.
        low_scale = 0.01 if low_percent or high_percent else 1.0
        first, last = sorted((float(low) * low_scale, float(high) * (0.01 if high_percent else 1.0)))
        return first, last
    match = _BOUND.fullmatch(value)
    if match is None:
        return None
    share = float(match["number"]) * (0.01 if match["percent"] else 1.0)
    return (share, None) if (match["op"] or "<").startswith(">") else (None, share)


def _tighter(old: float | None, new: float | None, choose: Callable[[float, float], float]) -> float | None:
    if old is None or new is None:
        return new if old is None else old
    return choose(old, new)
