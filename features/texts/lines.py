"""Documents that are lines of JSON: each knows where its line is, so that it is read there and nowhere copied."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from features.services.corpora import NewDocument
from features.texts.skips import Skips
from inference.dashboards.corpus import MAX_DOCUMENT_BYTES
from inference.errors import InvalidInput

SUFFIXES = (".jsonl", ".ndjson")
# A line says more than its text.
_MOST_BYTES = 2 * MAX_DOCUMENT_BYTES
_MOST_FACTS, _LONGEST_FACT = 20, 200


def documents_of_lines(path: Path, name: str, field: str, skips: Skips) -> Iterator[NewDocument]:
    """Yield the documents of a file, whose text is `field` of each line and whose metadata are the other fields.

    Lines that are no JSON, have no text or too much of it are counted. Raises InvalidInput where no line has the field.
    """
    found, others = 0, set()
    with path.open("rb") as file:
        for number, start, line in _lines(file):
            label = f"{name}:{number}"
            row, reason = _read(line, field)
            if row is None:
                skips.add(label, reason)
            elif field not in row:
                others |= set(row)
                skips.add(label, f"without {field!r}")
            elif reason := _objection(row[field]):
                skips.add(label, reason)
            else:
                found += 1
                yield NewDocument(
                    name=label,
                    path=path,
                    start=start,
                    n_bytes=len(line),
                    field=field,
                    sha256=hashlib.sha256(row[field].encode("utf-8", "replace")).hexdigest(),
                    metadata=metadata_of(row, field),
                )
    if not found and others:
        raise InvalidInput(
            f"No line of {name} has a field {field!r}.",
            f"Name the field that holds the text; there are: {', '.join(sorted(map(str, others))[:12])}.",
            field=field,
        )


def metadata_of(row: Mapping[str, Any], field: str) -> dict[str, Any]:
    """Return what a row says beside its text: numbers, and short strings."""
    facts = {}
    for name, value in row.items():
        if name != field and isinstance(value, (str, int, float, bool)) and len(facts) < _MOST_FACTS:
            facts[str(name)[:80]] = value[:_LONGEST_FACT] if isinstance(value, str) else value
    return facts


def _read(line: bytes | None, field: str) -> tuple[dict[str, Any] | None, str]:
    if line is None:
        return None, "enormous"
    try:
        row = json.loads(line)
    except UnicodeDecodeError:
        return None, "not UTF-8"
    except ValueError:
        return None, "not JSON"
    return (row, "") if isinstance(row, dict) else (None, "not an object")


def _objection(text: object) -> str:
    if not isinstance(text, str):
        return "not text"
    if not text.strip():
        return "empty"
    return "enormous" if len(text) > MAX_DOCUMENT_BYTES else ""


def _lines(file: BinaryIO) -> Iterator[tuple[int, int, bytes | None]]:
    """Yield `(number from 1, start, line)` of lines that say something; None for one that is too long to be read."""
    number = start = 0
    while data := file.readline(_MOST_BYTES + 1):
        number += 1
        line: bytes | None = data
        size = len(data)
        while len(data) > _MOST_BYTES and not data.endswith(b"\n"):
            line = None
            data = file.readline(_MOST_BYTES + 1)
            size += len(data)
        if line is None or line.strip():
            yield number, start, line
        start += size
