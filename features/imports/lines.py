"""JSON files of any size, plain or gzipped, read a line at a time; what is wrong is said with the file and the line."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from inference.errors import InvalidInput

# A line beyond this is no feature or activation; without a limit a damaged file would be read into memory whole.
MAX_LINE = 256 * 1024**2
_GZIP = b"\x1f\x8b"
_TOKENS = re.compile(rb'"tokens":\s*\[')
# Where a list of strings ends: behind its last quote comes the next key. Inside the list, a quote that opens or closes
# a string is never followed by `],` and a key.
_TOKENS_END = re.compile(rb'"\],\s*"[A-Za-z_]\w*":')
_VALUES = re.compile(rb'"values":\s*\[([^\]\["{]*)\]')


class BadFile(InvalidInput):
    """A file that cannot be imported as it is."""

    code = "bad-file"


class Place(NamedTuple):
    """A line of a file; the file's name is relative to what is imported."""

    file: str
    line: int

    def wrong(self, why: str, remedy: str = "Write or fetch the file again, then resume the run.") -> BadFile:
        """Return the error that says what is wrong here."""
        return BadFile(f"{self.file}, line {self.line}: {why}.", remedy, file=self.file, line=self.line)


class Record(NamedTuple):
    """An activation as a line holds it: `tokens` is the text of its JSON list, `values` the numbers between commas.

    Contexts return in many lines, so their tokens are compared as bytes and parsed once. Where the line is written in
    an unusual way both are lists already.
    """

    place: Place
    fields: dict[str, Any]
    tokens: bytes | list[Any]
    values: bytes | list[Any]


def lines(path: Path, name: str) -> Iterator[tuple[Place, bytes]]:
    """Yield every line that is not empty; raise BadFile where the file is corrupt or ends too early."""
    with path.open("rb") as raw:
        is_gzip = raw.read(2) == _GZIP
    number = 0
    try:
        with gzip.open(path, "rb") if is_gzip else path.open("rb") as file:
            for number, line in enumerate(iter(partial(file.readline, MAX_LINE), b""), start=1):
                if len(line) == MAX_LINE:
                    raise Place(name, number).wrong(f"the line is longer than {MAX_LINE:,} bytes")
                if not line.isspace():
                    yield Place(name, number), line
    except EOFError:
        raise Place(name, number + 1).wrong("the file ends in the middle of its compressed data") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise Place(name, number + 1).wrong(f"the compressed data is corrupt ({error})") from None
    if is_gzip is False and path.suffix == ".gz" and number == 0:
        raise Place(name, 1).wrong("the file is empty")


def objects(path: Path, name: str) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Yield the object of every line."""
    for place, line in lines(path, name):
        yield place, parsed(place, line)


def records(path: Path, name: str) -> Iterator[Record]:
    """Yield the activation of every line."""
    for place, line in lines(path, name):
        yield _split(place, line) or _whole(place, line)


def parsed(place: Place, line: bytes) -> dict[str, Any]:
    """Return the object of a line; raise BadFile."""
    try:
        found = json.loads(line)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        if not line.endswith(b"\n"):
            raise place.wrong("the file ends in the middle of the line") from None
        raise place.wrong(f"this is not JSON ({error})") from None
    if not isinstance(found, dict):
        raise place.wrong(f"an object is expected, not {type(found).__name__}")
    return found


def document(path: Path, name: str) -> dict[str, Any]:
    """Return the object that a whole file holds, such as a batch of SAEDashboard; raise BadFile."""
    data = path.read_bytes()
    try:
        if data[:2] == _GZIP:
            data = gzip.decompress(data)
        found = json.loads(data)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise Place(name, 1).wrong("the compressed data is corrupt") from None
    except json.JSONDecodeError as error:
        cut = error.pos >= len(data.rstrip()) - 1 or error.msg.startswith("Unterminated")
        why = "the file ends in the middle of the line" if cut else f"this is not JSON ({error.msg})"
        raise Place(name, error.lineno).wrong(why) from None
    except UnicodeDecodeError:
        raise Place(name, 1).wrong("this is not UTF-8") from None
    if not isinstance(found, dict):
        raise Place(name, 1).wrong("the file holds no object")
    return found


def _split(place: Place, line: bytes) -> Record | None:
    """Return the record without parsing its two long lists; None where the line is not written as usual."""
    start = _TOKENS.search(line)
    end = start and _TOKENS_END.search(line, start.end())
    values = end and _VALUES.search(line, end.start() + 2)
    if not (start and end and values):
        return None
    first, last = start.end() - 1, end.start() + 2
    low, high = values.span(1)
    fields = parsed(place, line[:first] + b"[]" + line[last:low] + line[high:])
    if fields.pop("tokens", None) != [] or fields.pop("values", None) != []:
        return None
    return Record(place, fields, line[first:last], values[1])


def _whole(place: Place, line: bytes) -> Record:
    fields = parsed(place, line)
    return Record(place, fields, fields.pop("tokens", None), fields.pop("values", None))
