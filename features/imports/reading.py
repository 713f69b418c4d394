"""From files to shards: each file once, and not again when an import is resumed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from features.imports.activations import INTERVAL, TOP, ActivationPart, silent_kind
from features.imports.explanation_lines import ExplanationShard
from features.imports.feature_lines import FeatureShard
from features.imports.finding import InputFile
from features.imports.lines import Place, Record, document, objects, records
from features.imports.shards import Shard, ShardWriter, finished, origin_of
from inference.dashboards.corpus import Cancelled

# Activations held in memory before they are written: what bounds it, however large a file is.
PART_ROWS = 262_144
LOOK_ROWS = 20_000
# Keys of a batch's activations: as the export layout names them.
_BATCH_KEYS = {
    "bin_min": "binMin",
    "bin_max": "binMax",
    "bin_contains": "binContains",
    "qualifying_token_index": "qualifyingTokenIndex",
    "dfa_values": "dfaValues",
    "dfa_maxValue": "dfaMaxValue",
    "dfa_targetIndex": "dfaTargetIndex",
    "loss_values": "lossValues",
    "logit_contributions": "logitContributions",
}


def read(file: InputFile, folder: Path, *, should_stop: Callable[[], bool] = lambda: False) -> Shard:
    """Return the shard of a file, reading the file unless its shard is there and whole.

    Raises BadFile, and Cancelled when `should_stop` says so; neither leaves a shard behind.
    """
    origin = origin_of(file.path, file.name)
    if (shard := finished(folder, origin=origin)) is not None:
        return shard
    with ShardWriter(folder, origin=origin) as writer:
        _READERS[file.kind](file, writer, should_stop)
    shard = finished(folder, origin=origin)
    if shard is None:
        raise Place(file.name, 1).wrong("it changed while it was read", "Resume the run when nothing writes to it.")
    return shard


def _features(file: InputFile, writer: ShardWriter, should_stop: Callable[[], bool]) -> None:
    rows = FeatureShard(writer)
    for place, fields in objects(file.path, file.name):
        rows.add(place, fields)
    rows.finish()


def _explanations(file: InputFile, writer: ShardWriter, should_stop: Callable[[], bool]) -> None:
    rows = ExplanationShard(writer)
    for place, fields in objects(file.path, file.name):
        rows.add(place, fields)
    rows.finish()


def _activations(file: InputFile, writer: ShardWriter, should_stop: Callable[[], bool]) -> None:
    parts = _Parts(writer, should_stop)
    for record in records(file.path, file.name):
        parts.add(record, silent_kind(record) if file.kind == "silent" else None)
    parts.finish()


def _batch(file: InputFile, writer: ShardWriter, should_stop: Callable[[], bool]) -> None:
    """Read a batch of SAEDashboard, in which activations lie inside their features."""
    batch = document(file.path, file.name)
    rows, parts = FeatureShard(writer), _Parts(writer, should_stop)
    for number, feature in enumerate(_objects(batch.get("features"), Place(file.name, 1), "features")):
        place = Place(f"{file.name} (feature {number} of the file)", 1)
        activations = _objects(feature.get("activations"), place, "activations")
        tops = [top for top in (entry.get("bin_max") for entry in activations) if isinstance(top, int | float)]
        rows.add(place, {"maxActApprox": max(tops, default=None), **feature}, index_name="feature_index")
        for activation in activations:
            fields = {_BATCH_KEYS.get(key, key): value for key, value in activation.items()}
            tokens, values = fields.pop("tokens", None), fields.pop("values", None)
            fields["index"] = feature.get("feature_index")
            parts.add(Record(place, fields, tokens, values), TOP if fields.get("binContains", -1) == -1 else INTERVAL)
    rows.finish()
    parts.finish()


class _Parts:
    """Activations of one file, written whenever enough of them wait."""

    def __init__(self, writer: ShardWriter, should_stop: Callable[[], bool]) -> None:
        self._writer, self._should_stop = writer, should_stop
        self._part = ActivationPart(writer, 0)
        self._n_parts = 0

    def add(self, record: Record, kind: int | None) -> None:
        self._part.add(record, kind=kind)
        if self._part.n_rows % LOOK_ROWS == 0 and self._should_stop():
            raise Cancelled
        if self._part.n_rows >= PART_ROWS:
            self._close()

    def finish(self) -> None:
        if self._part.n_rows:
            self._close()
        self._writer.facts["parts"] = self._n_parts

    def _close(self) -> None:
        self._part.finish()
        self._n_parts += 1
        self._part = ActivationPart(self._writer, self._n_parts)


def _objects(value: Any, place: Place, name: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise place.wrong(f"{name} is not a list of objects")
    return value


_READERS: dict[str, Callable[[InputFile, ShardWriter, Callable[[], bool]], None]] = {
    "features": _features,
    "activations": _activations,
    "silent": _activations,
    "explanations": _explanations,
    "batch": _batch,
}
