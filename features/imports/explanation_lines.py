"""Explanations of one file: each with the method under which Facet stores it, and where it comes from."""

from __future__ import annotations

from typing import Any

import msgspec

from features.imports.activations import feature_number, is_there
from features.imports.lines import NOTHING, Place
from features.imports.shards import ShardWriter

PREFIX = "neuronpedia"
_METHOD_LENGTH = 80


class ExplanationLine(msgspec.Struct, forbid_unknown_fields=True):
    """A line of the export layout: all keys that are known, those without a use as they stand there."""

    index: int | str
    description: str
    id: Any = None
    authorId: Any = None
    author: Any = None
    triggeredByUserId: Any = None
    createdAt: Any = None
    notes: Any = None
    typeName: Any = None
    explanationModelName: Any = None
    scoreV1: Any = None
    scoreV2: Any = None
    scores: Any = None
    facet: Any = None
    embedding: msgspec.Raw = NOTHING
    umap_x: msgspec.Raw = NOTHING
    modelId: msgspec.Raw = NOTHING
    layer: msgspec.Raw = NOTHING
    umap_y: msgspec.Raw = NOTHING
    umap_cluster: msgspec.Raw = NOTHING
    umap_log_feature_sparsity: msgspec.Raw = NOTHING
    updatedAt: msgspec.Raw = NOTHING
    triggeredByUser: msgspec.Raw = NOTHING


# What is kept beside the text as evidence of its origin.
_ORIGIN = ("id", "typeName", "explanationModelName", "authorId", "author", "triggeredByUserId", "createdAt", "notes")
_SCORES = ("scoreV1", "scoreV2", "scores")
_NOT_KEPT = ("embedding", "umap_x")


class ExplanationShard:
    """Collects the explanations of a file; `finish` writes them to the shard."""

    def __init__(self, writer: ShardWriter) -> None:
        self._writer = writer
        self._rows: list[msgspec.Raw] = []
        self._methods: set[str] = set()

    def add(self, place: Place, line: ExplanationLine) -> None:
        """Take a line; raise BadFile where it is of no feature."""
        counts = self._writer.counts
        counts.rows["explanations"] += 1
        index, text = feature_number(line.index, place), line.description.strip()
        for key in _NOT_KEPT:
            if is_there(getattr(line, key)):
                counts.left_out[f"explanations: {key}"] += 1
        if not text:
            counts.left_out["explanations without text"] += 1
            return
        own = line.facet
        if isinstance(own, dict) and isinstance(own.get("method"), str) and isinstance(own.get("evidence"), dict):
            # It was made by a method of Facet and travelled.
            self._keep(own["method"][:_METHOD_LENGTH], index, text, own["evidence"])
            return
        evidence: dict[str, Any] = {"imported_from": "Neuronpedia"}
        evidence |= {key: value for key in _ORIGIN if (value := getattr(line, key)) is not None}
        if scores := {key: value for key in _SCORES if (value := getattr(line, key))}:
            evidence["scores"] = scores
        self._keep(method_of(line), index, text, evidence)

    def finish(self) -> None:
        """Write all explanations."""
        self._writer.lines("explanations", self._rows)
        self._writer.facts["methods"] = sorted(self._methods)

    def _keep(self, method: str, index: int, text: str, evidence: dict[str, Any]) -> None:
        self._methods.add(method)
        self._rows.append(msgspec.Raw(msgspec.json.encode((method, index, text, evidence))))


def method_of(line: ExplanationLine) -> str:
    """Return `neuronpedia/TYPE/MODEL` with what the line says of both."""
    parts = (line.typeName, line.explanationModelName)
    return "/".join([PREFIX, *(part for part in parts if isinstance(part, str) and part)])[:_METHOD_LENGTH]
