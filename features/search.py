"""The language of the search box: free words, quotes, and typed chips.

    assertEqual                    explanations, peak tokens, promoted tokens and contexts
    "capital of"                   words in order
    label:date ctx:"import os"     words of explanations; words of a feature's top contexts
    tok:def promotes:" return"     tokens that a feature peaks on, or promotes
    density:<1% density:0.1%-2%    share of tokens where a feature fires

Chips restrict every kind of evidence and are joined by AND.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from features.words import storable

MAX_LENGTH = 500
MAX_TERMS = 12
CHIPS = ("label", "ctx", "tok", "promotes", "density")
_TERM = re.compile(r"""(?:(?P<chip>[A-Za-z]+):)?(?:"(?P<quoted>[^"]*)"?|(?P<bare>\S+))""")
_BOUND = re.compile(r"(?P<op><=?|>=?)?(?P<number>\d+(?:\.\d*)?|\.\d+)(?P<percent>%)?")
_RANGE = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(%)?-(\d+(?:\.\d*)?|\.\d+)(%)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A parsed query. Phrases of each kind are joined by AND; densities are shares."""

    text: str
    words: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    contexts: tuple[str, ...] = ()
    tokens: tuple[str, ...] = ()
    promotes: tuple[str, ...] = ()
    density_low: float | None = None
    density_high: float | None = None
    ignored: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not (self.words or self.labels or self.contexts or self.tokens or self.promotes or self.has_density)

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
        return tuple(terms)


def parse(text: str) -> Query:
    """Parse what was typed; nothing is an error: what cannot be understood is listed in `ignored`."""
    cut = storable(text)[:MAX_LENGTH]
    found: dict[str, list[str]] = {"words": [], "label": [], "ctx": [], "tok": [], "promotes": []}
    low = high = None
    ignored = [] if len(text) <= MAX_LENGTH else [f"beyond {MAX_LENGTH} characters"]
    for number, match in enumerate(_TERM.finditer(cut)):
        chip, quoted, bare = match["chip"], match["quoted"], match["bare"]
        value = bare if quoted is None else quoted
        if number >= MAX_TERMS:
            ignored.append(match[0])
        elif chip == "density":
            bounds = _density(value)
            if bounds is None:
                ignored.append(match[0])
            else:
                low, high = _tighter(low, bounds[0], max), _tighter(high, bounds[1], min)
        elif not value:
            ignored.append(match[0])
        elif chip in found and chip != "words":
            found[chip].append(value)
        else:
            # A colon after any other word is text: `def f(x: int)`, `https:`.
            found["words"].append(value if chip is None else f"{chip}:{value}")
    return Query(
        text=storable(text),
        words=tuple(found["words"]),
        labels=tuple(found["label"]),
        contexts=tuple(found["ctx"]),
        tokens=tuple(found["tok"]),
        promotes=tuple(found["promotes"]),
        density_low=low,
        density_high=high,
        ignored=tuple(ignored),
    )


def _density(value: str) -> tuple[float | None, float | None] | None:
    if match := _RANGE.fullmatch(value):
        low, low_percent, high, high_percent = match.groups()
        # `0.1-2%` means percent on both sides.
        low_scale = 0.01 if low_percent or high_percent else 1.0
        return float(low) * low_scale, float(high) * (0.01 if high_percent else 1.0)
    match = _BOUND.fullmatch(value)
    if match is None:
        return None
    share = float(match["number"]) * (0.01 if match["percent"] else 1.0)
    return (share, None) if (match["op"] or "<").startswith(">") else (None, share)


def _tighter(old: float | None, new: float | None, choose: Callable[[float, float], float]) -> float | None:
    if old is None or new is None:
        return new if old is None else old
    return choose(old, new)
