"""Tokens as strings: which ids they have in a known vocabulary, and the text that they make together.

Files spell tokens in three ways: as text; in the alphabet of byte-level BPE, in which every character is a byte (`Ã©`
is é), with spaces and newlines mostly restored; and in SentencePiece's, in which `▁` is a space. A vocabulary of Facet
has texts, with bytes that are no whole character written as `\\xNN` (inference.text.display).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

_ESCAPE = re.compile(r"\\x([89a-f][0-9a-f])")
_METASPACE = "\u2581"
_HEX_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
# Strings that open every context of a file and stand for no text.
_SPECIAL = re.compile(r"<[^<>\s]+>|\[[A-Z]+\]")


def _byte_alphabet() -> dict[int, int]:
    """Return the byte behind each character of byte-level BPE; spaces, newlines and tabs stand for themselves too."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    moved = [byte for byte in range(256) if byte not in printable]
    return {byte: byte for byte in (*printable, 0x20, 0x0A, 0x09)} | {256 + i: byte for i, byte in enumerate(moved)}


_BYTE_OF = _byte_alphabet()


def spelled_in_bytes(string: str) -> bytes | None:
    """Return the bytes that a string spells in byte-level BPE's alphabet; None if it is not written in it."""
    found = [_BYTE_OF.get(ord(character), -1) for character in string]
    return bytes(found) if -1 not in found else None


def displayed(data: bytes) -> str:
    """Return bytes as a vocabulary of Facet writes them."""
    return data.decode("utf-8", errors="backslashreplace")


def bytes_of(text: str) -> bytes:
    """Return the bytes of a token's text as Facet displays it."""
    if "\\x" not in text:
        return text.encode("utf-8", errors="replace")
    out, place = b"", 0
    for match in _ESCAPE.finditer(text):
        out += text[place : match.start()].encode("utf-8", errors="replace") + bytes([int(match[1], 16)])
        place = match.end()
    return out + text[place:].encode("utf-8", errors="replace")


class Matcher:
    """Finds the ids of strings in a vocabulary of texts."""

    def __init__(self, id_of: Mapping[str, int], *, in_bytes: bool) -> None:
        self._id_of, self._in_bytes = id_of, in_bytes

    def text(self, string: str) -> str | None:
        """Return the vocabulary's text of a string; None if it has no such token."""
        return next((text for text in self._spellings(string) if text in self._id_of), None)

    def _spellings(self, string: str) -> Iterable[str]:
        data = None if string.isascii() else spelled_in_bytes(string)
        by_bytes = [] if data is None else [displayed(data)]
        yield from (*by_bytes, string) if self._in_bytes else (string, *by_bytes)
        if _METASPACE in string:
            yield string.replace(_METASPACE, " ")
        if match := _HEX_TOKEN.fullmatch(string):
            yield displayed(bytes([int(match[1], 16)]))

    def longest_prefix(self, string: str) -> int:
        """Return the id of the longest token that begins a string, 0 if none does."""
        for end in range(len(string), 0, -1):
            if (text := self.text(string[:end])) is not None:
                return self._id_of[text]
        return 0


def is_in_bytes(strings: Iterable[str], known: Mapping[str, int]) -> bool:
    """Tell whether strings are spelled in bytes: more of them are tokens when read so than when read as text."""
    balance = 0
    for string in strings:
        if not string.isascii() and (data := spelled_in_bytes(string)) is not None:
            balance += (displayed(data) in known) - (string in known)
    return balance > 0


def is_special(string: str) -> bool:
    """Tell whether a string is written like a token that stands for no text."""
    return _SPECIAL.fullmatch(string) is not None


def joined(pieces: Sequence[bytes]) -> tuple[str, np.ndarray, np.ndarray]:
    """Return the text that tokens make together, with each token's start and end in characters.

    Tokens that share a multi-byte character share its span; bytes that belong to no character become one mark each.
    """
    data = b"".join(pieces)
    end_t = np.cumsum([len(piece) for piece in pieces]) if pieces else np.zeros(0, dtype=np.int64)
    start_t = np.concatenate([[0], end_t[:-1]]) if len(end_t) else end_t
    text = data.decode("utf-8", errors="replace")
    if len(text) == len(data):
        return text, start_t, end_t
    character_of = _characters(text, data)
    first_t = character_of[start_t]
    return text, first_t, np.where(end_t > start_t, character_of[end_t - 1] + 1, first_t)


def _characters(text: str, data: bytes) -> np.ndarray:
    """Return the character to which each byte belongs, and one entry more for the end."""
    character_of = np.zeros(len(data) + 1, dtype=np.int64)
    place = 0
    for number, character in enumerate(text):
        size = len(character.encode())
        if character == "\N{REPLACEMENT CHARACTER}" and data[place : place + 3] != b"\xef\xbf\xbd":
            size = _invalid(data, place)
        character_of[place : place + size] = number
        place += size
    character_of[place:] = len(text)
    return character_of


def _invalid(data: bytes, place: int) -> int:
    """Return how many bytes one replacement mark stands for."""
    try:
        data[place : place + 4].decode("utf-8")
    except UnicodeDecodeError as error:
        return max(1, error.end - error.start) if error.start == 0 else 1
    return 1
