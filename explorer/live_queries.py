"""What people ask of the engine: parsed, checked and turned back into query strings. A page's state is its URL.

Imports neither torch nor a model: whether a model, a source or an index exists is for the selectors to say.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar
from urllib.parse import urlencode

from django.http import QueryDict

from inference.errors import InvalidInput

MAX_TEXT_BYTES = 100_000
MAX_TOP = 200
MAX_SOURCES = 16
MAX_EDITS = 16
MAX_TOKENS = 256
MAX_STRENGTH = 100.0
MAX_POSITIONS = 4096
RANKS = {
    "max": "Largest activation",
    "share": "Largest activation as a share of the feature's maximum",
    "mean": "Mean activation over tokens",
}
DENSITIES = (0.1, 0.01, 0.001)
_EDIT = re.compile(r"(?P<source>[-\w.]+)/(?P<index>\d{1,9})(?:@(?P<strength>[-+]?\d*\.?\d+(?:e[-+]?\d+)?))?")
_RANGE = re.compile(r"(\d{1,6})(?:-(\d{1,6}))?")
T = TypeVar("T")
_CONTROLS_OF_TEXT = frozenset("\n\r\t\f\b\x1b")


class TextTooLarge(InvalidInput):
    """More bytes than the engine is asked to tokenize."""

    code = "text-too-large"
    status = 413


class UnusableText(InvalidInput):
    """Empty, binary, or not Unicode."""

    code = "invalid-text"


def check_text(text: str) -> str:
    """Return the text.

    Raises:
        UnusableText: where it is empty, holds half of a surrogate pair, or looks like a binary file.
        TextTooLarge: above MAX_TEXT_BYTES of UTF-8.
    """
    if not text:
        raise UnusableText("The text is empty.", "Type or paste some text.")
    try:
        n_bytes = len(text.encode())
    except UnicodeEncodeError as error:
        raise UnusableText(
            f"The text has half of a surrogate pair at character {error.start}.",
            "Send whole Unicode characters.",
            position=error.start,
        ) from error
    if n_bytes > MAX_TEXT_BYTES:
        raise TextTooLarge(
            f"The text has {n_bytes:,} bytes; the limit is {MAX_TEXT_BYTES:,}.",
            "Send a shorter text; `build` runs whole corpora.",
            n_bytes=n_bytes,
            limit=MAX_TEXT_BYTES,
        )
    odd = sum(
        character == "\ufffd" or (unicodedata.category(character) == "Cc" and character not in _CONTROLS_OF_TEXT)
        for character in text
    )
    if "\0" in text or odd * 10 > len(text):
        raise UnusableText(
            "The text looks like a binary file: it has NUL, or many characters that are no text.",
            "Send text in UTF-8.",
            n_odd=odd,
        )
    return text


def parse_positions(value: str) -> tuple[int, ...] | None:
    """Return the token positions of "4-7,9", ascending; None for an empty string, which means all."""
    if not value.strip():
        return None
    positions: set[int] = set()
    for part in value.split(","):
        match = _RANGE.fullmatch(part.strip())
        if match is None:
            raise InvalidInput(
                f"{part.strip()[:40]!r} is not a token position.", "Write positions such as 3, 5-8.", at=value[:200]
            )
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last - first >= MAX_POSITIONS:
            raise InvalidInput(
                f"The range {first}-{last} is empty or too long.", "Write first-last, as in 5-8.", at=value[:200]
            )
        positions.update(range(first, last + 1))
    return tuple(sorted(positions))


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptQuery:
    """Which features of `sources` fire in `text`; `at` restricts positions.

    With `chat` the text is a turn in the model's chat template; None leaves that to what the dictionaries' files say.
    `density` hides features denser than it: at first those above a tenth, which say little of any one text. An empty
    `rank` is `share` where every dictionary is built, else `max`.
    """

    model: str = ""
    sources: tuple[str, ...] = ()
    text: str = ""
    rank: str = ""
    density: float | None = DENSITIES[0]
    at: str = ""
    top: int = 50
    truncate: bool = False
    chat: bool | None = None

    @classmethod
    def from_params(cls, params: QueryDict) -> PromptQuery:
        """Read a page's query string or form."""
        query = cls(
            model=params.get("model", ""),
            sources=tuple(dict.fromkeys(source for source in params.getlist("source") if source)),
            text=form_text(params.get("text", "")),
            rank=params.get("rank", ""),
            density=_number(params, "density", low=0.0, high=1.0) if "density" in params else DENSITIES[0],
            at=params.get("at", "").strip(),
            top=int(_number(params, "top", low=1, high=MAX_TOP) or 50),
            truncate=params.get("truncate") in ("1", "on", "true"),
            chat={"1": True, "0": False}.get(params.get("chat", "")),
        )
        query.check()
        return query

    def check(self) -> None:
        """Raise InvalidInput where a control has a value that it cannot have; the text is checked when it is run."""
        if self.rank and self.rank not in RANKS:
            raise InvalidInput(f"There is no ranking {self.rank[:40]!r}.", f"Use one of {', '.join(RANKS)}.")
        if len(self.sources) > MAX_SOURCES:
            raise InvalidInput(
                f"{len(self.sources)} dictionaries are chosen; the limit is {MAX_SOURCES}.", "Choose fewer."
            )
        parse_positions(self.at)

    @property
    def positions(self) -> tuple[int, ...] | None:
        return parse_positions(self.at)

    def query_string(self) -> str:
        """Return what reproduces the page, without what equals the defaults."""
        pairs: list[tuple[str, str]] = [("model", self.model)] if self.model else []
        pairs += [("source", source) for source in self.sources]
        pairs += [("text", self.text)] if self.text else []
        pairs += [("rank", self.rank)] if self.rank else []
        pairs += (
            [("density", "" if self.density is None else f"{self.density:g}")] if self.density != DENSITIES[0] else []
        )
        pairs += [("at", self.at)] if self.at else []
        pairs += [("top", str(self.top))] if self.top != 50 else []
        pairs += [("truncate", "1")] if self.truncate else []
        pairs += [("chat", str(int(self.chat)))] if self.chat is not None else []
        return urlencode(pairs)


@dataclass(frozen=True, slots=True, kw_only=True)
class EditQuery:
    """A feature and its strength in units of the feature's maximum."""

    source: str
    index: int
    strength: float = 1.0

    @classmethod
    def parse(cls, text: str, *, strength: str | None = None) -> EditQuery:
        """Read `source/index@strength`; a separate `strength` (a number field of a form) takes precedence."""
        match = _EDIT.fullmatch(text.strip())
        if match is None:
            raise InvalidInput(
                f"{text.strip()[:80]!r} is not a feature of a recipe.",
                "Write source/index@strength, as in 1-res-topk/12@1.5.",
            )
        number = strength if strength not in (None, "") else match["strength"]
        try:
            value = float(number) if number is not None else 1.0
        except ValueError as error:
            raise InvalidInput(f"{number!r} is not a strength.", "Write a number, as in 1.5 or -2.") from error
        return cls(source=match["source"], index=int(match["index"]), strength=value).checked()

    def checked(self) -> EditQuery:
        """Return the edit, or raise InvalidInput for a strength out of range."""
        if not abs(self.strength) <= MAX_STRENGTH:
            raise InvalidInput(
                f"The strength {self.strength:g} is beyond ±{MAX_STRENGTH:g}.",
                "Strengths count the feature's maximum: 1 to 5 is strong already.",
            )
        return self

    def __str__(self) -> str:
        return f"{self.source}/{self.index}@{self.strength:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SteerQuery:
    """A steering recipe: what to generate from, with which edits, and how to sample."""

    model: str = ""
    text: str = ""
    edits: tuple[EditQuery, ...] = ()
    n_tokens: int = 48
    temperature: float = 0.7
    top_p: float = 1.0
    seed: int = 0
    truncate: bool = False

    @classmethod
    def from_params(cls, params: QueryDict) -> SteerQuery:
        """Read a page's query string or form, with the feature that it adds."""
        query, error = cls.read(params)
        if error is not None:
            raise error
        added = cls.addition(params)
        return query if added is None else query.with_edit(added)

    @classmethod
    def read(cls, params: QueryDict) -> tuple[SteerQuery, InvalidInput | None]:
        """Return what can be read, and the first error: one bad field costs nobody the rest of a recipe."""
        errors: list[InvalidInput] = []

        def kept(read: Callable[[], T], otherwise: T) -> T:
            try:
                return read()
            except InvalidInput as error:
                errors.append(error)
                return otherwise

        def number(name: str, low: float, high: float, default: float) -> float:
            value = kept(lambda: _number(params, name, low=low, high=high), None)
            return default if value is None else value

        strengths = params.getlist("strength")
        edits: list[EditQuery] = []
        for i, text in enumerate(params.getlist("f")):
            strength = strengths[i] if i < len(strengths) else None
            edit = kept(lambda: EditQuery.parse(text, strength=strength), None) if text else None  # noqa: B023
            if text and edit is None and strength:
                edit = kept(lambda: EditQuery.parse(text), None)  # noqa: B023
            if edit is not None:
                edits.append(edit)
        query = cls(
            model=params.get("model", ""),
            text=form_text(params.get("text", "")),
            edits=tuple(edits),
            n_tokens=int(number("n", 1, MAX_TOKENS, 48)),
            temperature=number("t", 0.0, 5.0, 0.7),
            top_p=number("p", 0.01, 1.0, 1.0),
            seed=int(number("seed", 0, 2**31 - 1, 0)),
            truncate=params.get("truncate") in ("1", "on", "true"),
        )
        kept(query.check, None)
        return query, errors[0] if errors else None

    @staticmethod
    def addition(params: QueryDict) -> EditQuery | None:
        """Return the feature that `add_source`, `add_index`, `add_strength` name, None where no index is given."""
        if not params.get("add_source") or not params.get("add_index", "").strip():
            return None
        added = f"{params['add_source']}/{params['add_index'].strip()}"
        return EditQuery.parse(added, strength=params.get("add_strength"))

    def check(self) -> None:
        """Raise InvalidInput where the recipe has more features than the engine takes."""
        if len(self.edits) > MAX_EDITS:
            raise InvalidInput(f"The recipe has {len(self.edits)} features; the limit is {MAX_EDITS}.", "Remove some.")

    def with_edit(self, edit: EditQuery) -> SteerQuery:
        """Return the recipe with one more feature, or raise InvalidInput where it is full."""
        longer = replace(self, edits=(*self.edits, edit))
        longer.check()
        return longer

    def with_model(self, model: str) -> SteerQuery:
        return replace(self, model=model)

    def query_string(self) -> str:
        """Return what reproduces the page, without what equals the defaults."""
        pairs: list[tuple[str, str]] = [("model", self.model)] if self.model else []
        pairs += [("f", str(edit)) for edit in self.edits]
        pairs += [("text", self.text)] if self.text else []
        pairs += [("n", str(self.n_tokens))] if self.n_tokens != 48 else []
        pairs += [("t", f"{self.temperature:g}")] if self.temperature != 0.7 else []
        pairs += [("p", f"{self.top_p:g}")] if self.top_p != 1.0 else []
        pairs += [("seed", str(self.seed))] if self.seed else []
        pairs += [("truncate", "1")] if self.truncate else []
        return urlencode(pairs)


def form_text(value: str) -> str:
    """Undo what browsers do to the lines of a text field."""
    return value.replace("\r\n", "\n")


def _number(params: QueryDict, name: str, *, low: float, high: float) -> float | None:
    """Return a number in [low, high], None where the field is empty."""
    raw = params.get(name, "").strip()
    if not raw:
        return None
    try:
        value = float(raw)
    except ValueError as error:
        raise InvalidInput(f"{name}={raw[:40]!r} is not a number.", f"Use {low:g} to {high:g}.", field=name) from error
    if not low <= value <= high:
        raise InvalidInput(f"{name}={raw[:40]} is out of range.", f"Use {low:g} to {high:g}.", field=name)
    return value
