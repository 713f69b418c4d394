"""Text at the border of a model: what may enter, where its tokens lie in it, and what tokens say.

A token may hold part of a multi-byte character, so text is made from bytes and never token by token.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from inference.errors import InvalidInput

BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
METASPACE = "\u2581"


class EmptyText(InvalidInput):
    """Nothing to run the model on."""

    code = "empty-text"


class InvalidText(InvalidInput):
    """Text that is not Unicode text: lone surrogates, or NUL as in binary files."""

    code = "invalid-text"


def check_text(text: str) -> None:
    """Raise EmptyText or InvalidText unless a model can read the text and Postgres can store it."""
    if not text:
        raise EmptyText("The text is empty.", "Type some text.")
    position = text.find("\0")
    if position >= 0:
        raise InvalidText(
            f"The text has a NUL at character {position}: it looks like a binary file.",
            "Send text.",
            position=position,
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidText(
            f"The text has half of a surrogate pair at character {error.start}.",
            "Send whole Unicode characters.",
            position=error.start,
        ) from error


def tiled(spans: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """Return starts and ends without gaps: spaces that a tokenizer trims off a token's span belong to that token."""
    starts, ends, reached = [], [], 0
    for start, end in spans:
        starts.append(min(start, reached))
        reached = max(end, reached)
        ends.append(reached)
    return starts, ends


def token_bytes(tokenizer: PreTrainedTokenizerBase, d_vocab: int) -> tuple[bytes, ...]:
    """Return the bytes that each of `d_vocab` tokens writes; entries that the tokenizer lacks are empty.

    Knows byte-level BPE (GPT-2 and its heirs) and SentencePiece with byte fallback (Llama and its heirs).
    """
    added = {id_: str(token) for id_, token in tokenizer.added_tokens_decoder.items()}
    entries = tokenizer.convert_ids_to_tokens(list(range(min(d_vocab, len(tokenizer)))))
    byte_level = "ByteLevel" in repr(tokenizer.backend_tokenizer.decoder)
    of_entry = _byte_level if byte_level else _sentence_piece
    known = (added[id_].encode() if id_ in added else of_entry(entry or "") for id_, entry in enumerate(entries))
    return (*known, *(b"" for _ in range(d_vocab - len(entries))))


def display(data: bytes) -> str:
    """Return a token's text, with bytes that are no whole character written as \\xNN."""
    return data.decode("utf-8", errors="backslashreplace")


class TextStream:
    """Text of a growing sequence of tokens: pieces concatenate to the text of all bytes."""

    def __init__(self, bytes_of: Sequence[bytes]) -> None:
        self._bytes_of = bytes_of
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token_id: int, *, final: bool = False) -> str:
        """Return the text that this token completes; `final` also gives up the bytes that wait for more."""
        return self._decoder.decode(self._bytes_of[token_id], final)


def _byte_level(entry: str) -> bytes:
    return bytes(_BYTE_OF[character] for character in entry)


def _sentence_piece(entry: str) -> bytes:
    if match := BYTE_TOKEN.fullmatch(entry):
        return bytes([int(match[1], 16)])
    return entry.replace(METASPACE, " ").encode()


def _byte_alphabet() -> dict[str, int]:
    """Return the byte behind each character of GPT-2's alphabet: printable Latin-1 is itself, the rest move up."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    moved = (byte for byte in range(256) if byte not in printable)
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(moved)}


_BYTE_OF = _byte_alphabet()
