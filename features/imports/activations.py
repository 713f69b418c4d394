"""Activations of one file as arrays: contexts once, firing tokens only, sorted by feature.

Suffixes: X activations, S recorded values (those of X end to end), C contexts, T tokens of C end to end.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from itertools import chain
from typing import Any

import numpy as np

from features.imports.lines import Place, Record
from features.imports.shards import ShardWriter
from inference.dashboards.results import HARD_SILENT, RANDOM_SILENT

CHUNK = 4096
LONGEST = 32_767  # positions are stored in 15 bits
# What `kind_x` says: chosen as one of the strongest, or for its interval; else it is a group of silent contexts.
TOP, INTERVAL = 0, 1
_KNOWN = frozenset(
    {
        *("id", "tokens", "values", "modelId", "layer", "index", "maxValue", "maxValueTokenIndex", "minValue"),
        *("binMin", "binMax", "binContains", "qualifyingTokenIndex", "dataSource", "dataIndex", "creatorId"),
        *("createdAt", "dfaValues", "dfaTargetIndex", "dfaMaxValue", "lossValues", "logitContributions", "zIndices"),
        *("zValues", "zQIndices", "zKIndices", "facet"),
    }
)
# What the pages of Facet have no place for, where a line carries it.
_NOT_KEPT = ("dfaValues", "lossValues", "logitContributions", "zValues")


# What a byte of a list of numbers is, in rising order: a number's highest byte says whether it is zero.
_OTHER, _COMMA, _SIGN, _ZERO, _DIGIT = range(5)
_KINDS = np.full(256, _OTHER, dtype=np.uint8)
_KINDS[list(b"+-.eE \t")] = _SIGN
_KINDS[ord("0")], _KINDS[ord(",")] = _ZERO, _COMMA
_KINDS[list(b"123456789")] = _DIGIT


class ActivationPart:
    """Collects activations of a file; `finish` writes them to the shard as its part of a number."""

    def __init__(self, writer: ShardWriter, number: int = 0) -> None:
        self._writer, self._number = writer, number
        self.n_rows = 0
        self._raw: dict[bytes, int] = {}
        self._strings: dict[str, int] = {}
        self._context_of: dict[bytes, int] = {}
        self._token_c: list[np.ndarray] = []
        self._origin_c: list[tuple[str, str, bool, int]] = []
        self._length_c: list[int] = []
        self._waiting: list[tuple[Place, bytes | list[Any]]] = []
        self._rows: list[tuple[int, int, int, int]] = []
        self._given: list[float | None] = []
        self._done: dict[str, list[np.ndarray]] = {}
        self._values: list[np.ndarray] = []
        self._positions: list[np.ndarray] = []

    def add(self, record: Record, *, kind: int | None = None) -> None:
        """Take a line; raise BadFile where its types are wrong."""
        place, fields = record.place, record.fields
        counts = self._writer.counts
        if unknown := fields.keys() - _KNOWN:
            counts.unknown_keys.update(f"activations: {key}" for key in unknown)
        for key in _NOT_KEPT:
            if fields.get(key):
                counts.left_out[f"activations: {key}"] += 1
        context = self._context(record)
        qualifying = fields.get("qualifyingTokenIndex")
        if not (qualifying is None or isinstance(qualifying, int)):
            raise place.wrong(f"qualifyingTokenIndex is {qualifying!r}, not a number")
        if not 0 <= (qualifying if qualifying is not None else -1) < self._length_c[context]:
            qualifying = -1
        if kind is None:
            kind = INTERVAL if (_number(place, fields, "binContains") or -1) >= 0 else TOP
        self._rows.append((index_of(place, fields), context, kind, qualifying))
        self._given.append(_number(place, fields, "maxValue") if kind >= HARD_SILENT else None)
        self._waiting.append((place, record.values))
        counts.rows["activations"] += 1
        if kind >= HARD_SILENT:
            counts.rows["silent"] += 1
        self.n_rows += 1
        if len(self._rows) >= CHUNK:
            self._digest()

    def finish(self) -> None:
        """Write all arrays, sorted by feature; rows of a feature keep the order of the file."""
        self._digest()
        rows = {name: np.concatenate(arrays) for name, arrays in self._done.items()} if self._done else _no_rows()
        order = np.argsort(rows["feature_x"], kind="stable")
        lengths = rows.pop("length_x")
        starts = np.concatenate([[0], np.cumsum(lengths)])[:-1]
        segments = gathered(starts[order], lengths[order])
        for name, array in rows.items():
            self._array(name, array[order])
        self._array("indptr_x", np.concatenate([[0], np.cumsum(lengths[order])]).astype(np.int64))
        self._array("positions_s", _joined(self._positions, np.uint16)[segments])
        self._array("values_s", _joined(self._values, np.float32)[segments])
        self._array("token_t", _joined(self._token_c, np.int32))
        self._array("indptr_c", np.concatenate([[0], np.cumsum(self._length_c)]).astype(np.int64))
        digests = b"".join(self._context_of)
        self._array("digest_c", np.frombuffer(digests, dtype=np.uint64).reshape(-1, 2))
        self._writer.lines(f"{self._number}.origins", self._origin_c)
        self._writer.lines(f"{self._number}.strings", list(self._strings))

    def _array(self, name: str, array: np.ndarray) -> None:
        self._writer.array(f"{self._number}.{name}", array)

    def _context(self, record: Record) -> int:
        """Return the number of a context, the same for the same tokens."""
        if isinstance(record.tokens, bytes):
            key = hashlib.blake2b(record.tokens, digest_size=16).digest()
            if (known := self._raw.get(key)) is not None:
                return known
            try:
                tokens = json.loads(record.tokens)
            except json.JSONDecodeError as error:
                raise record.place.wrong(f"its tokens are not JSON ({error.msg})") from None
            self._raw[key] = context = self._add_context(record, tokens)
            return context
        return self._add_context(record, record.tokens)

    def _add_context(self, record: Record, tokens: Any) -> int:
        if not (isinstance(tokens, list) and all(isinstance(token, str) for token in tokens)):
            raise record.place.wrong("its tokens are not a list of strings")
        if not 0 < len(tokens) <= LONGEST:
            raise record.place.wrong(f"it has {len(tokens):,} tokens; 1 to {LONGEST:,} can be stored")
        data = "\0".join(tokens).encode(errors="surrogatepass")
        digest = hashlib.blake2b(data, digest_size=16).digest()
        known = self._context_of.setdefault(digest, len(self._context_of))
        if known == len(self._length_c):
            strings = self._strings
            self._token_c.append(np.array([strings.setdefault(token, len(strings)) for token in tokens], np.int32))
            self._length_c.append(len(tokens))
            self._origin_c.append(_origin(record.fields))
        return known

    def _digest(self) -> None:
        """Turn the rows that wait into arrays."""
        if not self._rows:
            return
        feature_x, context_x, kind_x, qualifying_x = np.array(self._rows, dtype=np.int64).T
        length_x = np.array(self._length_c, dtype=np.int64)[context_x]
        value_t = self._numbers(length_x)
        start_x = np.cumsum(length_x) - length_x
        row_t = np.repeat(np.arange(len(length_x)), length_x)
        highest_x = np.maximum.reduceat(value_t, start_x)
        peaks = np.flatnonzero(value_t == highest_x[row_t])
        _, first = np.unique(row_t[peaks], return_index=True)
        place_x = peaks[first] - start_x
        # An interval's example is shown at the token for which it was chosen.
        chosen_x = np.where((kind_x != TOP) & (qualifying_x >= 0), qualifying_x, place_x)
        silent_x = kind_x >= HARD_SILENT
        chosen_x = np.where((value_t[start_x + chosen_x] != 0) | silent_x, chosen_x, place_x)
        given_x = np.array([0.0 if value is None else value for value in self._given])
        fires = np.flatnonzero(value_t)
        arrays = {
            "feature_x": feature_x.astype(np.int32),
            "context_x": context_x.astype(np.int32),
            "kind_x": kind_x.astype(np.uint8),
            "peak_position_x": chosen_x.astype(np.uint16),
            "peak_value_x": np.where(silent_x, given_x, value_t[start_x + chosen_x]).astype(np.float32),
            "highest_x": highest_x.astype(np.float32),
            "length_x": np.bincount(row_t[fires], minlength=len(length_x)),
        }
        for name, array in arrays.items():
            self._done.setdefault(name, []).append(array)
        self._positions.append((fires - start_x[row_t[fires]]).astype(np.uint16))
        self._values.append(value_t[fires].astype(np.float32))
        self._rows, self._waiting, self._given = [], [], []

    def _numbers(self, length_x: np.ndarray) -> np.ndarray:
        """Return the values of all rows that wait, end to end; raise BadFile naming the first bad line."""
        waiting = [values for _, values in self._waiting]
        if all(isinstance(values, bytes) for values in waiting):
            lengths = [values.count(b",") + 1 for values in waiting]  # type: ignore[arg-type]
            value_t = _from_text(b",".join(waiting)) if lengths == length_x.tolist() else None  # type: ignore[arg-type]
        else:
            lists = [_parsed(values) for values in waiting]
            lengths = [len(values) if isinstance(values, list) else -1 for values in lists]
            value_t = _from_lists(lists) if lengths == length_x.tolist() else None
        if value_t is None or len(value_t) != length_x.sum() or not np.isfinite(value_t).all():
            return self._checked(length_x)
        return value_t

    def _checked(self, length_x: np.ndarray) -> np.ndarray:
        """Return the same, a line at a time."""
        found = []
        for (place, values), length in zip(self._waiting, length_x.tolist(), strict=True):
            numbers = _from_lists([_parsed(values)])
            if numbers is None or not np.isfinite(numbers).all():
                raise place.wrong("its values are not a list of finite numbers")
            if len(numbers) != length:
                raise place.wrong(f"it has {length:,} tokens and {len(numbers):,} values")
            found.append(numbers)
        return np.concatenate(found)


def index_of(place: Place, fields: dict[str, Any], name: str = "index") -> int:
    """Return the index of a feature, which files write as a number or as a string."""
    raw = fields.get(name)
    if isinstance(raw, int) and not isinstance(raw, bool) and raw >= 0:
        return raw
    if isinstance(raw, str) and raw.isascii() and raw.isdigit() and len(raw) < 10:
        return int(raw)
    raise place.wrong(f"{name} is {raw!r}, not the number of a feature")


def silent_kind(record: Record) -> int:
    """Return the group of a context in which a feature is silent."""
    own = record.fields.get("facet")
    group = own.get("group") if isinstance(own, dict) else None
    return group if group in (HARD_SILENT, RANDOM_SILENT) else RANDOM_SILENT


def gathered(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return the places of segments end to end, in the order given."""
    ends = np.cumsum(lengths)
    return np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(starts - (ends - lengths), lengths)


def _origin(fields: dict[str, Any]) -> tuple[str, str, bool, int]:
    """Return where a context comes from: data set, place in it, whether it is held out, and how many are like it."""
    source, index = (str(fields.get(key) or "") for key in ("dataSource", "dataIndex"))
    own = fields.get("facet")
    if not isinstance(own, dict):
        return source, index, False, 0
    similar = own.get("n_similar")
    return source, index, own.get("held_out") is True, similar if isinstance(similar, int) and similar > 0 else 0


def _number(place: Place, fields: dict[str, Any], name: str) -> float | None:
    value = fields.get(name)
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    raise place.wrong(f"{name} is {value!r}, not a number")


def _parsed(values: bytes | list[Any]) -> Any:
    if isinstance(values, list) or values is None:
        return values
    try:
        return json.loads(b"[" + values + b"]")
    except json.JSONDecodeError:
        return None


def _from_text(text: bytes) -> np.ndarray | None:
    """Return the numbers between commas; None where something else stands there.

    Most are zero: only those with another digit than 0 are parsed.
    """
    byte_t = np.frombuffer(text, dtype=np.uint8)
    kind_t = _KINDS[byte_t]
    if (kind_t == _OTHER).any():
        return None
    commas = np.flatnonzero(kind_t == _COMMA)
    start_n = np.concatenate([[0], commas + 1])
    end_n = np.concatenate([commas, [len(byte_t)]])
    # Every place holds a number: at least one digit. Empty places come first, since they would end reduceat's segments.
    if (end_n <= start_n).any() or not (np.maximum.reduceat(kind_t, start_n) >= _ZERO).all():
        return None
    value_n = np.zeros(len(start_n))
    firing = np.flatnonzero(np.maximum.reduceat(kind_t, start_n) == _DIGIT)
    # Each with the comma or the end behind it, so that they stay apart.
    length_n = end_n[firing] - start_n[firing]
    parts = np.full(int(length_n.sum()) + len(firing), ord(","), dtype=np.uint8)
    at = np.arange(len(parts) - len(firing)) + np.repeat(np.arange(len(firing)), length_n)
    parts[at] = byte_t[gathered(start_n[firing], length_n)]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)
            parsed = np.fromstring(parts.tobytes()[:-1], dtype=np.float64, sep=",") if len(firing) else np.zeros(0)
    except (ValueError, DeprecationWarning):
        return None
    if len(parsed) != len(firing):
        return None
    value_n[firing] = parsed
    return value_n


def _from_lists(lists: list[Any]) -> np.ndarray | None:
    try:
        flat = list(chain.from_iterable(lists))
    except TypeError:
        return None
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in flat)
    return np.array(flat, dtype=np.float64) if numbers else None


def _joined(arrays: list[np.ndarray], dtype: Any) -> np.ndarray:
    return np.concatenate(arrays) if arrays else np.zeros(0, dtype=dtype)


def _no_rows() -> dict[str, np.ndarray]:
    types = {"feature_x": np.int32, "context_x": np.int32, "kind_x": np.uint8, "peak_position_x": np.uint16}
    floats = dict.fromkeys(("peak_value_x", "highest_x"), np.float32)
    return {name: np.zeros(0, dtype) for name, dtype in (types | floats | {"length_x": np.int64}).items()}
