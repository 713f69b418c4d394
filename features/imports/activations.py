"""Activations of one file as arrays: contexts once, firing tokens only, sorted by feature.

Suffixes: X activations, S recorded values (those of X end to end), C contexts, T tokens of C end to end.
"""

from __future__ import annotations

import hashlib
from array import array
from typing import Any

import msgspec
import numpy as np

from features.imports.lines import NOTHING, Place
from features.imports.shards import ShardWriter
from inference.dashboards.results import HARD_SILENT, RANDOM_SILENT

CHUNK = 4096
# Tokens as they stand in a file, remembered to know them again without reading them: how many bytes of them.
REMEMBERED_BYTES = 64 * 1024**2
LONGEST = 32_767  # positions are stored in 15 bits
# What `kind_x` says: chosen as one of the strongest, or for its interval; else it is a group of silent contexts.
TOP, INTERVAL = 0, 1
_STRINGS = msgspec.json.Decoder(list[str])


class Activation(msgspec.Struct, gc=False, forbid_unknown_fields=True, rename="camel"):
    """A line of the export layout: all keys that are known, those without a use as they stand there.

    Contexts return in many lines: their tokens stay text, which is compared and parsed once.
    """

    tokens: msgspec.Raw
    values: list[float]
    index: int | str
    bin_contains: float | None = None
    qualifying_token_index: int | None = None
    max_value: float | None = None
    data_source: msgspec.Raw = NOTHING
    data_index: msgspec.Raw = NOTHING
    facet: msgspec.Raw = NOTHING
    dfa_values: list | None = None
    loss_values: list | None = None
    logit_contributions: list | None = None
    z_values: list | None = None
    id: msgspec.Raw = NOTHING
    model_id: msgspec.Raw = NOTHING
    layer: msgspec.Raw = NOTHING
    creator_id: msgspec.Raw = NOTHING
    created_at: msgspec.Raw = NOTHING
    max_value_token_index: msgspec.Raw = NOTHING
    min_value: msgspec.Raw = NOTHING
    bin_min: msgspec.Raw = NOTHING
    bin_max: msgspec.Raw = NOTHING
    dfa_target_index: msgspec.Raw = NOTHING
    dfa_max_value: msgspec.Raw = NOTHING
    z_indices: msgspec.Raw = NOTHING
    z_q_indices: msgspec.Raw = NOTHING
    z_k_indices: msgspec.Raw = NOTHING


class BatchActivation(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """An activation of a feature in a batch of SAEDashboard."""

    tokens: msgspec.Raw
    values: list[float]
    bin_contains: float | None = -1.0
    qualifying_token_index: int | None = None
    bin_min: float | None = None
    bin_max: float | None = None
    dfa_values: list | None = None
    z_values: list | None = None
    dfa_maxValue: msgspec.Raw = NOTHING
    dfa_targetIndex: msgspec.Raw = NOTHING
    loss_values: list | None = None
    logit_contributions: list | None = None


# What the pages of Facet have no place for, where a line carries it: attributes, and keys of the export layout.
_NOT_KEPT = {
    "dfa_values": "dfaValues",
    "loss_values": "lossValues",
    "logit_contributions": "logitContributions",
    "z_values": "zValues",
}


class Numbers(dict[str, int]):
    """Numbers strings as they are asked for, from 0: a string that is new gets the next number."""

    def __missing__(self, string: str) -> int:
        number = self[string] = len(self)
        return number


class ActivationPart:
    """Collects activations of a file; `finish` writes them to the shard as its part of a number."""

    def __init__(self, writer: ShardWriter, number: int = 0) -> None:
        self._writer, self._number = writer, number
        self.n_rows = 0
        self._raw: dict[bytes, int] = {}
        self._raw_bytes = 0
        self._strings = Numbers()
        self._context_of: dict[bytes, int] = {}
        self._tokens = array("i")
        self._origin_c: list[tuple[str, str, bool, int]] = []
        self._length_c: list[int] = []
        self._rows: list[tuple[int, int, int, int]] = []
        self._given: list[float] = []
        self._waiting = array("d")
        self._done: dict[str, list[np.ndarray]] = {}
        self._values: list[np.ndarray] = []
        self._positions: list[np.ndarray] = []

    def add(self, line: Activation | BatchActivation, index: int, kind: int, place: Place) -> bool:
        """Take the activation of a feature; raise BadFile where it does not fit together.

        Tells whether this was the last of CHUNK, after which nothing waits.
        """
        if line.dfa_values or line.loss_values or line.logit_contributions or line.z_values:
            left_out = self._writer.counts.left_out
            left_out.update(f"activations: {key}" for name, key in _NOT_KEPT.items() if getattr(line, name))
        raw = bytes(line.tokens)
        context = self._raw.get(raw)
        if context is None:
            context = self._context(raw, line, place)
        values, length = line.values, self._length_c[context]
        if len(values) != length:
            raise place.wrong(f"it has {length:,} tokens and {len(values):,} values")
        self._waiting.fromlist(values)
        qualifying = line.qualifying_token_index
        if qualifying is None or not 0 <= qualifying < length:
            qualifying = -1
        self._rows.append((index, context, kind, qualifying))
        self._given.append(line.max_value or 0.0 if kind >= HARD_SILENT else 0.0)
        self.n_rows += 1
        if len(self._rows) < CHUNK:
            return False
        self._digest()
        return True

    def finish(self) -> None:
        """Write all arrays, sorted by feature; rows of a feature keep the order of the file."""
        self._digest()
        self._count()
        rows = {name: np.concatenate(arrays) for name, arrays in self._done.items()} if self._done else _no_rows()
        order = np.argsort(rows["feature_x"], kind="stable")
        lengths = rows.pop("length_x")
        starts = np.concatenate([[0], np.cumsum(lengths)])[:-1]
        segments = gathered(starts[order], lengths[order])
        for name, array_x in rows.items():
            self._array(name, array_x[order])
        self._array("indptr_x", np.concatenate([[0], np.cumsum(lengths[order])]).astype(np.int64))
        self._array("positions_s", _joined(self._positions, np.uint16)[segments])
        self._array("values_s", _joined(self._values, np.float32)[segments])
        self._array("token_t", np.array(self._tokens, dtype=np.int32))
        self._array("indptr_c", np.concatenate([[0], np.cumsum(self._length_c)]).astype(np.int64))
        digests = b"".join(self._context_of)
        self._array("digest_c", np.frombuffer(digests, dtype=np.uint64).reshape(-1, 2))
        self._writer.lines(f"{self._number}.origins", self._origin_c)
        self._writer.lines(f"{self._number}.strings", list(self._strings))

    def _array(self, name: str, values: np.ndarray) -> None:
        self._writer.array(f"{self._number}.{name}", values)

    def _count(self) -> None:
        counted = self._writer.counts.rows
        counted["activations"] += self.n_rows
        for kinds in self._done.get("kind_x", ()):
            counted["silent"] += int((kinds >= HARD_SILENT).sum())

    def _context(self, raw: bytes, line: Activation | BatchActivation, place: Place) -> int:
        """Return the number of a context, the same for the same tokens, and remember how they are written."""
        try:
            tokens = _STRINGS.decode(raw)
        except msgspec.ValidationError:
            raise place.wrong("its tokens are not a list of strings") from None
        if not 0 < len(tokens) <= LONGEST:
            raise place.wrong(f"it has {len(tokens):,} tokens; 1 to {LONGEST:,} can be stored")
        digest = hashlib.blake2b("\0".join(tokens).encode(), digest_size=16).digest()
        context = self._context_of.setdefault(digest, len(self._context_of))
        if context == len(self._length_c):
            self._tokens.extend(map(self._strings.__getitem__, tokens))
            self._length_c.append(len(tokens))
            self._origin_c.append(_origin(line) if isinstance(line, Activation) else ("", "", False, 0))
        if self._raw_bytes > REMEMBERED_BYTES:
            self._raw.clear()
            self._raw_bytes = 0
        self._raw[raw] = context
        self._raw_bytes += len(raw)
        return context

    def _digest(self) -> None:
        """Turn the rows that wait into arrays."""
        if not self._rows:
            return
        feature_x, context_x, kind_x, qualifying_x = np.array(self._rows, dtype=np.int64).T
        length_x = np.array(self._length_c, dtype=np.int64)[context_x]
        value_t = np.frombuffer(self._waiting)
        start_x = np.cumsum(length_x) - length_x
        # Few tokens fire: all but finding them is done on these alone, suffix S.
        fires_s = np.flatnonzero(value_t)
        row_s = np.repeat(np.arange(len(length_x)), length_x)[fires_s]
        value_s, position_s = value_t[fires_s], fires_s - start_x[row_s]
        fired_x = np.bincount(row_s, minlength=len(length_x))
        highest_x = np.where(fired_x < length_x, 0.0, -np.inf)
        np.maximum.at(highest_x, row_s, value_s)
        # The first of the strongest tokens; the first token of a context where nothing exceeds its silence.
        place_x = np.zeros(len(length_x), dtype=np.int64)
        peaks = np.flatnonzero(value_s == highest_x[row_s])[::-1]
        place_x[row_s[peaks]] = position_s[peaks]
        # An interval's example is shown at the token for which it was chosen.
        chosen_x = np.where((kind_x != TOP) & (qualifying_x >= 0), qualifying_x, place_x)
        silent_x = kind_x >= HARD_SILENT
        chosen_x = np.where((value_t[start_x + chosen_x] != 0) | silent_x, chosen_x, place_x)
        peak_x = np.where(silent_x, np.array(self._given), value_t[start_x + chosen_x])
        arrays = {
            "feature_x": feature_x.astype(np.int32),
            "context_x": context_x.astype(np.int32),
            "kind_x": kind_x.astype(np.uint8),
            "peak_position_x": chosen_x.astype(np.uint16),
            "peak_value_x": peak_x.astype(np.float32),
            "highest_x": highest_x.astype(np.float32),
            "length_x": fired_x,
        }
        for name, array_x in arrays.items():
            self._done.setdefault(name, []).append(array_x)
        self._positions.append(position_s.astype(np.uint16))
        self._values.append(value_s.astype(np.float32))
        self._rows, self._given, self._waiting = [], [], array("d")


def feature_number(raw: int | str, place: Place) -> int:
    """Return the index of a feature, which files write as a number or as a string."""
    if isinstance(raw, int) and 0 <= raw < 10**9:
        return raw
    if isinstance(raw, str) and raw.isascii() and raw.isdigit() and len(raw) < 10:
        return int(raw)
    raise place.wrong(f"index is {raw!r}, not the number of a feature")


def kind_of(bin_contains: float | None, bin_max: float | None) -> int:
    """Return why an activation was chosen; an interval that has neither a share nor a width is none."""
    if bin_contains is None or bin_contains < 0 or not (bin_contains or bin_max):
        return TOP
    return INTERVAL


def silent_kind(line: Activation) -> int:
    """Return the group of a context in which a feature is silent."""
    group = _own(line).get("group")
    return group if group in (HARD_SILENT, RANDOM_SILENT) else RANDOM_SILENT


def is_there(raw: msgspec.Raw) -> bool:
    """Tell whether a key that is not parsed holds anything."""
    return raw is not NOTHING and len(raw) > 2 and bytes(raw) != b"null"


def gathered(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return the places of segments end to end, in the order given."""
    ends = np.cumsum(lengths)
    return np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(starts - (ends - lengths), lengths)


def _own(line: Activation) -> dict[str, Any]:
    own = _parsed(line.facet)
    return own if isinstance(own, dict) else {}


def _parsed(raw: msgspec.Raw) -> Any:
    return None if raw is NOTHING or bytes(raw) == b"null" else msgspec.json.decode(raw)


def _origin(line: Activation) -> tuple[str, str, bool, int]:
    """Return where a context comes from: data set, place in it, whether it is held out, and how many are like it."""
    source, index = (str(_parsed(raw) or "") for raw in (line.data_source, line.data_index))
    own = _own(line)
    similar = own.get("n_similar")
    return source, index, own.get("held_out") is True, similar if isinstance(similar, int) and similar > 0 else 0


def _joined(arrays: list[np.ndarray], dtype: Any) -> np.ndarray:
    return np.concatenate(arrays) if arrays else np.zeros(0, dtype=dtype)


def _no_rows() -> dict[str, np.ndarray]:
    types = {"feature_x": np.int32, "context_x": np.int32, "kind_x": np.uint8, "peak_position_x": np.uint16}
    floats = dict.fromkeys(("peak_value_x", "highest_x"), np.float32)
    return {name: np.zeros(0, dtype) for name, dtype in (types | floats | {"length_x": np.int64}).items()}
