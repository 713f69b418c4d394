"""JSON files of any size, plain or gzipped, read a line at a time; what is wrong is said with the file and the line."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec
from isal import igzip, isal_zlib

from features.imports.shards import Counts
from inference.errors import InvalidInput

# A line beyond this is no feature or activation; without a limit a damaged file would be read into memory whole.
MAX_LINE = 256 * 1024**2
NOTHING = msgspec.Raw(b"null")
_GZIP = b"\x1f\x8b"
_FIELD = re.compile(r"(.*) - at `\$\.(\w+)")
_MISSING = re.compile(r"missing required field `(\w+)`")
_KEYS = msgspec.json.Decoder(dict[str, msgspec.Raw])
# What msgspec expected of a key, in words.
_WORDS = (
    ("array", "a list"),
    ("str", "a text"),
    ("float", "a number"),
    ("int", "a whole number"),
    ("object", "an object"),
)
_ITEMS = {"list[float]": "a list of finite numbers", "list[str]": "a list of strings", "list[int]": "a list of numbers"}
T = TypeVar("T", bound=msgspec.Struct)


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


class LineDecoder(Generic[T]):
    """Reads objects as `kind`, a Struct that forbids unknown keys and has a field for every key that is known.

    Files that have no unknown key are checked and converted in one step. From the first unknown key on, the keys of
    every line are looked at too, and those that `kind` lacks are counted as `what: key`.
    """

    def __init__(self, kind: type[T], counts: Counts, what: str) -> None:
        self._unknown, self._what = counts.unknown_keys, what
        self._types = {field.encode_name: str(field.type) for field in msgspec.structs.fields(kind)}
        self._strict = msgspec.json.Decoder(kind).decode
        lenient = msgspec.defstruct(kind.__name__, [], bases=(kind,), forbid_unknown_fields=False)
        self._lenient = msgspec.json.Decoder(lenient).decode
        self._is_strict = True

    def __call__(self, line: bytes | msgspec.Raw, place: Place) -> T:
        """Return the object of a line; raise BadFile naming the line and the key."""
        if self._is_strict:
            try:
                return self._strict(line)
            except msgspec.MsgspecError:
                pass
        return self._slowly(line, place)

    def _slowly(self, line: bytes | msgspec.Raw, place: Place) -> T:
        try:
            keys = _KEYS.decode(line)
        except msgspec.MsgspecError:
            line = _plain(place, bytes(line))
            keys = _KEYS.decode(line)
        if unknown := keys.keys() - self._types.keys():
            self._is_strict = False
            self._unknown.update(f"{self._what}: {key}" for key in unknown)
        try:
            return self._lenient(line)
        except msgspec.ValidationError as error:
            raise place.wrong(self._why(str(error), keys)) from None

    def _why(self, error: str, keys: dict[str, msgspec.Raw]) -> str:
        if missing := _MISSING.search(error):
            return f"it has no {missing[1]}"
        found = _FIELD.match(error)
        if not found or found[2] not in keys:
            return error
        key = found[2]
        text = bytes(keys[key]).decode(errors="replace")
        shown = text if len(text) < 60 else f"{text[:57]}…"
        for items, words in _ITEMS.items():
            if items in self._types[key]:
                return f"{key} is {shown}, not {words}"
        expected = found[1].partition("`")[2].partition("`")[0]
        words = next((words for kind, words in _WORDS if kind in expected), expected)
        return f"{key} is {shown}, not {words}"


def lines(path: Path, name: str) -> Iterator[tuple[Place, bytes]]:
    """Yield every line that is not empty; raise BadFile where the file is corrupt or ends too early."""
    with path.open("rb") as raw:
        is_gzip = raw.read(2) == _GZIP
    number = 0
    try:
        with igzip.open(path, "rb") if is_gzip else path.open("rb") as file:
            for number, line in enumerate(iter(partial(file.readline, MAX_LINE), b""), start=1):
                if len(line) == MAX_LINE:
                    raise Place(name, number).wrong(f"the line is longer than {MAX_LINE:,} bytes")
                if not line.isspace():
                    yield Place(name, number), line
    except EOFError:
        raise Place(name, number + 1).wrong("the file ends in the middle of its compressed data") from None
    except (gzip.BadGzipFile, isal_zlib.error) as error:
        raise Place(name, number + 1).wrong(f"the compressed data is corrupt ({error})") from None
    if is_gzip is False and path.suffix == ".gz" and number == 0:
        raise Place(name, 1).wrong("the file is empty")


def objects(path: Path, name: str) -> Iterator[dict[str, Any]]:
    """Yield the object of every line of a small file."""
    for place, line in lines(path, name):
        yield _parsed(place, line)


def document(path: Path, name: str) -> dict[str, Any]:
    """Return the object that a small file holds; raise BadFile."""
    return _parsed(Place(name, 1), content(path, name))


def whole(path: Path, name: str, kind: type[T]) -> T:
    """Return what a file holds as `kind`, with the parts that it keeps raw; raise BadFile."""
    place, data = Place(name, 1), content(path, name)
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise place.wrong(str(error)) from None
    except msgspec.MsgspecError:
        data = _plain(place, data)
    return msgspec.json.decode(data, type=kind)


def content(path: Path, name: str) -> bytes:
    """Return the bytes of a file, unpacked; raise BadFile."""
    data = path.read_bytes()
    try:
        return igzip.decompress(data) if data[:2] == _GZIP else data
    except (EOFError, gzip.BadGzipFile, isal_zlib.error):
        raise Place(name, 1).wrong("the compressed data is corrupt") from None


def _parsed(place: Place, data: bytes) -> dict[str, Any]:
    return json.loads(_plain(place, data))


def _plain(place: Place, data: bytes) -> bytes:
    """Return an object without what Python reads and JSON does not have: NaN becomes null, half a character ?.

    Raises BadFile where it is no object.
    """
    try:
        found = json.loads(data, parse_constant=lambda name: None)
    except UnicodeDecodeError:
        raise place.wrong("this is not UTF-8") from None
    except json.JSONDecodeError as error:
        place = Place(place.file, place.line + error.lineno - 1)
        # The last word or escape of a file that was cut is wrong from its start.
        is_cut = error.pos >= len(data.rstrip()) - 8 or error.msg.startswith("Unterminated")
        if is_cut and not data.endswith(b"\n"):
            raise place.wrong("the file ends in the middle of the line") from None
        raise place.wrong(f"this is not JSON ({error.msg}, at its character {error.colno:,})") from None
    if not isinstance(found, dict):
        raise place.wrong(f"an object is expected, not {type(found).__name__}")
    return json.dumps(found, ensure_ascii=False).encode(errors="replace")
