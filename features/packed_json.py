"""JSON that every explanation has, as few bytes: what it rests on is short tokens and shares under the same keys.

A record is the number of the text that it is deflated against, a byte, and the deflated JSON; an empty object is no
byte. A text is never changed, because what is stored is read with it: a better one gets the next number.
"""

from __future__ import annotations

import json
import zlib
from typing import Any

from features.words import storable_json
from inference.packing import BadBytes

# What a feature's evidence tends to have (inference.explanations.evidence), the likeliest last, where it is nearest.
_TEXTS = {
    1: (
        '{"imported_from":"Neuronpedia","typeName":"oai_token-act-pair","explanationModelName":"gpt-4o-mini","notes":'
        '"authorId":"clkht01d40000jv08hvalcvly","scoreV1":0.5,"scores":[{"explanationScoreTypeName":"eleuther_fuzz",'
        '["class",0.0],["def",0.1],["import",0.0],["from",0.1],["return",0.0],["if",0.0],["for",0.1],["is",0.0],'
        '["not",0.0],["None",0.1],["test",0.0],["name",0.0],["of",0.0],["and",0.0],["with",0.0],["as",0.0],["it",0.1],'
        '["self",0.1],["in",0.0],["to",0.0],["a",0.0],["the",0.1],["s",0.0],["\\"\\"\\"",0.0],["#",0.1],["_",0.0],'
        '["=",0.0],["[",0.0],["]",0.0],["\\"",0.0],["\'",0.0],["-",0.0],[":",0.0],["()",0.0],[")",0.0],["(",0.1],'
        '[".",0.1],[",",0.0],["\\n       ",0.0],["\\n   ",0.0],["\\n",0.0],["ing",0.04],["er",0.05],["re",0.06],'
        '["ed",0.07],["on",0.08],["al",0.09],["or",0.02],["⟨start⟩",0.1],'
        '{"pattern":"token+left","n_tokens":1048576,"firing_count":1000,"n_examples":50,"first_position":1,'
        '"last_position":119,"window":128,"token_entropy":3.9,"inside_word":0.0,"line_start":0.0,"window_start":0.0,'
        '"tokens":[["",0.03],["",0.02]],"peaks":[["",0.04]],"left":[["",0.03]],"next":[["",0.02]],"line":[["",0.01]],'
        '"near":[],"earlier":[],"says":[],"promoted":["",""],"suppressed":["",""],"strongest":{"n_tokens":1048576,'
    ).encode(),
}
_NOW = 1
# Nothing is longer than a few thousand characters, so a window of that size does, and costs less to make.
_RAW, _MEMORY = -13, 5


def pack(value: dict[str, Any]) -> bytes:
    """Return a JSON-ready object as bytes, equal for equal ones."""
    if not value:
        return b""
    deflate = zlib.compressobj(9, zlib.DEFLATED, _RAW, _MEMORY, zlib.Z_DEFAULT_STRATEGY, _TEXTS[_NOW])
    return bytes([_NOW]) + deflate.compress(storable_json(value).encode()) + deflate.flush()


def unpack(data: bytes | memoryview) -> dict[str, Any]:
    """Return the object that `pack` packed; raise BadBytes for other bytes."""
    if not data:
        return {}
    number, *_ = bytes(data[:1])
    if number not in _TEXTS:
        raise BadBytes(f"it is deflated against a text {number} that is not known")
    inflate = zlib.decompressobj(_RAW, _TEXTS[number])
    try:
        value = json.loads(inflate.decompress(data[1:]))
    except (zlib.error, ValueError) as error:
        raise BadBytes(str(error)) from error
    if not inflate.eof or inflate.unused_data or not isinstance(value, dict):
        raise BadBytes("its JSON is cut off, no object, or more follows")
    return value
