"""The text of a context, looked through once for all the features that fire in it: its lines and its words."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from functools import cached_property
from typing import NamedTuple

_WORD = re.compile(r"[^\W\d_]{3,}")
_LONG = 3
_LINE_WORD = re.compile(r"\w+|[^\w\s]+")


class Place(NamedTuple):
    """Where a token begins: inside a word or not, and what opens its line before it, None where that is blank."""

    inside_word: bool
    opening: str | None


NOWHERE = Place(False, None)


class ContextText:
    """A text whose parts are asked for by their characters, again and again."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._places: dict[int, Place] = {}

    def place(self, start: int) -> Place:
        """Return the place of a token by its first character."""
        if start not in self._places:
            inside_word = start > 0 and self.text[start - 1 : start + 1].isalpha()
            line = self.text.rfind("\n", 0, start) + 1
            opening = _LINE_WORD.match(self.text[line:start].lstrip())
            self._places[start] = Place(inside_word, opening.group() if opening else None)
        return self._places[start]

    def words_in(self, start: int, end: int) -> set[str]:
        """Return `words_of(text[start:end])`."""
        starts, ends, words = self._words
        first, behind = bisect_left(starts, start), bisect_right(ends, end)
        found = set(words[first:behind])
        # A word that lies across a limit counts as what is left of it.
        if first and ends[first - 1] > start:
            found.update(self._part(start, min(ends[first - 1], end)))
        if behind < len(starts) and starts[behind] < end:
            found.update(self._part(max(starts[behind], start), end))
        return found

    def words_before(self, end: int) -> list[str]:
        """Return the members of `words_of(text[:end])`, each once."""
        starts, ends, _ = self._words
        first_ends, unique = self._unique
        found = unique[: bisect_right(first_ends, end)]
        behind = bisect_right(ends, end)
        if behind < len(starts) and starts[behind] < end:
            found += [part for part in self._part(starts[behind], end) if part not in found]
        return found

    def _part(self, start: int, end: int) -> tuple[str, ...]:
        return (self.text[start:end].casefold(),) if end - start >= _LONG else ()

    @cached_property
    def _words(self) -> tuple[list[int], list[int], list[str]]:
        spans = [match.span() for match in _WORD.finditer(self.text)]
        words = [self.text[start:end].casefold() for start, end in spans]
        return [start for start, _ in spans], [end for _, end in spans], words

    @cached_property
    def _unique(self) -> tuple[list[int], list[str]]:
        """The end of each word where it stands first, ascending, and the word."""
        _, ends, words = self._words
        first = dict(zip(reversed(words), reversed(ends), strict=True))
        pairs = sorted((end, word) for word, end in first.items())
        return [end for end, _ in pairs], [word for _, word in pairs]


def words_of(text: str) -> set[str]:
    """Return the words of three letters or more, in one case."""
    return {word.casefold() for word in _WORD.findall(text)}
