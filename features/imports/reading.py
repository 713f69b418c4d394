"""From files to shards: each file once, and not again when an import is resumed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from features.imports.activations import (
    Activation,
    ActivationPart,
    BatchActivation,
    feature_number,
    kind_of,
    silent_kind,
)
from features.imports.explanation_lines import ExplanationLine, ExplanationShard
from features.imports.feature_lines import BatchFeature, FeatureLine, FeatureShard
from features.imports.finding import InputFile
from features.imports.lines import LineDecoder, Place, lines, whole
from features.imports.shards import Shard, ShardWriter, finished, origin_of
from inference.dashboards.corpus import Cancelled

# Activations held in memory before they are written: what bounds it, however large a file is.
PART_ROWS = 262_144
ShouldStop = Callable[[], bool]


class Batch(msgspec.Struct):
    """A file of SAEDashboard's: its features are read one by one."""

    features: list[msgspec.Raw]


def read(file: InputFile, folder: Path, *, should_stop: ShouldStop = lambda: False) -> Shard:
    """Return the shard of a file, reading the file unless its shard is there and whole.

    Raises BadFile, and Cancelled when `should_stop` says so; neither leaves a shard behind.
    """
    origin = origin_of(file.path, file.name)
    if (shard := finished(folder, origin=origin)) is not None:
        return shard
    with ShardWriter(folder, origin=origin) as writer:
        _READERS[file.kind](file, writer, should_stop)
    if origin_of(file.path, file.name) != origin:
        raise Place(file.name, 1).wrong("it changed while it was read", "Resume the run when nothing writes to it.")
    return writer.shard


def _features(file: InputFile, writer: ShardWriter, should_stop: ShouldStop) -> None:
    rows, decode = FeatureShard(writer), LineDecoder(FeatureLine, writer.counts, "features")
    for place, line in lines(file.path, file.name):
        rows.add(place, decode(line, place))
    rows.finish()


def _explanations(file: InputFile, writer: ShardWriter, should_stop: ShouldStop) -> None:
    rows, decode = ExplanationShard(writer), LineDecoder(ExplanationLine, writer.counts, "explanations")
    for place, line in lines(file.path, file.name):
        rows.add(place, decode(line, place))
    rows.finish()


def _activations(file: InputFile, writer: ShardWriter, should_stop: ShouldStop, *, silent: bool = False) -> None:
    parts = _Parts(writer, should_stop)
    decode = LineDecoder(Activation, writer.counts, "activations")
    numbers: dict[int | str, int] = {}
    for place, text in lines(file.path, file.name):
        line = decode(text, place)
        index = numbers.get(line.index)
        if index is None:
            index = numbers[line.index] = feature_number(line.index, place)
        kind = silent_kind(line) if silent else kind_of(line.bin_contains, line.bin_max)
        parts.add(line, index, kind, place)
    parts.finish()


def _batch(file: InputFile, writer: ShardWriter, should_stop: ShouldStop) -> None:
    """Read a batch of SAEDashboard, in which activations lie inside their features."""
    rows, parts = FeatureShard(writer), _Parts(writer, should_stop)
    decode_feature = LineDecoder(BatchFeature, writer.counts, "features")
    decode_activation = LineDecoder(BatchActivation, writer.counts, "activations")
    for number, text in enumerate(whole(file.path, file.name, Batch).features):
        place = Place(f"{file.name} (feature {number} of the file)", 1)
        feature = decode_feature(text, place)
        activations = [decode_activation(activation, place) for activation in feature.activations or ()]
        feature.maxActApprox = max((one.bin_max for one in activations if one.bin_max is not None), default=None)
        index = rows.add(place, feature)
        for activation in activations:
            parts.add(activation, index, kind_of(activation.bin_contains, activation.bin_max), place)
    rows.finish()
    parts.finish()


class _Parts:
    """Activations of one file, written whenever enough of them wait."""

    def __init__(self, writer: ShardWriter, should_stop: ShouldStop) -> None:
        self._writer, self._should_stop = writer, should_stop
        self._part = ActivationPart(writer)
        self._n_parts = 0

    def add(self, line: Activation | BatchActivation, index: int, kind: int, place: Place) -> None:
        if self._part.add(line, index, kind, place):
            if self._should_stop():
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


_READERS: dict[str, Callable[[InputFile, ShardWriter, ShouldStop], None]] = {
    "features": _features,
    "activations": _activations,
    "silent": partial(_activations, silent=True),
    "explanations": _explanations,
    "batch": _batch,
}
