"""Text as it is stored and looked for."""

from __future__ import annotations

import json
import re
from typing import Any

# Postgres' text takes neither NUL nor lone surrogates. Both become one character, so that offsets stay true.
_UNSTORABLE = {0: "\N{SYMBOL FOR NULL}"} | dict.fromkeys(range(0xD800, 0xE000), "\N{REPLACEMENT CHARACTER}")
_SURROGATE = re.compile("[\ud800-\udfff]")


def storable(text: str) -> str:
    """Return the text with what Postgres cannot hold replaced, character for character."""
    return text.translate(_UNSTORABLE)


def storable_json(value: Any) -> str:
    """Return compact JSON that jsonb takes: it refuses NUL and lone surrogates even as escapes."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    # Hardly any text has one, and looking for it in all of them at once is fast.
    if "\\u0000" not in text and not _SURROGATE.search(text):
        return text
    return json.dumps(storable_value(value), ensure_ascii=False, separators=(",", ":"))


def storable_value(value: Any) -> Any:
    """Return a JSON-ready value of which jsonb takes every text."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, dict):
        return {storable(key): storable_value(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [storable_value(entry) for entry in value]
    return value


def fold(token: str) -> str:
    """Return a token's text as search compares it: without white space around it, in one case."""
    return token.strip().casefold()


def has_word(text: str) -> bool:
    """Tell whether anything in a text is a word: signs alone are in no index of words."""
    return any(map(str.isalnum, text))


def slugify(name: str) -> str:
    """Return a slug of ASCII letters, digits and dashes; empty where the name has none."""
    words = "".join(character if character.isalnum() and character.isascii() else " " for character in name.lower())
    return "-".join(words.split())
