"""What the strings of the files are as tokens: of a model that is here, or of one that is known from files alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from features.imports.contexts import Token
from features.imports.strings import Matcher, bytes_of, displayed, is_in_bytes, spelled_in_bytes
from features.models import LanguageModel
from features.services import imports
from features.words import storable

_METASPACE = "\u2581"
# Of the strings that are not ASCII, how many must be spelled in bytes for all to be read so.
_MOSTLY = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """The token of every string; `unknown` are strings that the model's vocabulary lacks."""

    of: dict[str, Token]
    unknown: tuple[str, ...]


def tokens_of(model: LanguageModel, strings: Iterable[str]) -> Tokens:
    """Return the tokens of strings, and give those that a model known from files alone lacks an id."""
    strings = sorted(set(strings))
    return _known(model, strings) if model.path else _growing(model, strings)


def _known(model: LanguageModel, strings: list[str]) -> Tokens:
    ids = imports.vocabulary(model.pk)
    matcher = Matcher(ids, in_bytes=is_in_bytes(strings, ids))
    found, unknown = {}, []
    for string in strings:
        text = matcher.text(storable(string))
        if text is None:
            # Its text stays as it is; what stands for it in searches is the token with which it begins.
            unknown.append(string)
            found[string] = Token(matcher.longest_prefix(string), string.encode(errors="replace"))
        else:
            found[string] = Token(ids[text], bytes_of(text))
    return Tokens(of=found, unknown=tuple(unknown))


def _growing(model: LanguageModel, strings: list[str]) -> Tokens:
    foreign = [string for string in strings if not string.isascii()]
    in_bytes = [string for string in foreign if spelled_in_bytes(string) is not None]
    as_bytes = len(in_bytes) > _MOSTLY * len(foreign)
    spaced = sum(_METASPACE in string for string in strings) > len(strings) / 10

    def read(string: str) -> bytes:
        if as_bytes and (data := None if string.isascii() else spelled_in_bytes(string)) is not None:
            return data
        return (string.replace(_METASPACE, " ") if spaced else string).encode(errors="replace")

    data_of = {string: read(string) for string in strings}
    ids = imports.add_tokens(model=model.pk, texts=map(displayed, data_of.values()))
    return Tokens(
        of={string: Token(ids[storable(displayed(data))], data) for string, data in data_of.items()}, unknown=()
    )
