"""Explanations of one file: each with the method under which Facet stores it, and where it comes from."""

from __future__ import annotations

from typing import Any

from features.imports.activations import index_of
from features.imports.lines import Place
from features.imports.shards import ShardWriter

PREFIX = "neuronpedia"
_METHOD_LENGTH = 80
_KNOWN = frozenset(
    {
        *("id", "modelId", "layer", "index", "description", "authorId", "triggeredByUserId", "notes", "typeName"),
        *("explanationModelName", "scoreV1", "scoreV2", "scores", "embedding", "umap_x", "umap_y", "umap_cluster"),
        *("umap_log_feature_sparsity", "createdAt", "updatedAt", "author", "triggeredByUser", "facet"),
    }
)
# What is kept beside the text as evidence of its origin.
_ORIGIN = ("id", "typeName", "explanationModelName", "authorId", "author", "triggeredByUserId", "createdAt", "notes")
_SCORES = ("scoreV1", "scoreV2", "scores")


class ExplanationShard:
    """Collects the explanations of a file; `finish` writes them to the shard."""

    def __init__(self, writer: ShardWriter) -> None:
        self._writer = writer
        self._rows: list[tuple[str, int, str, dict[str, Any]]] = []

    def add(self, place: Place, fields: dict[str, Any]) -> None:
        """Take a line; raise BadFile where its types are wrong."""
        counts = self._writer.counts
        if unknown := fields.keys() - _KNOWN:
            counts.unknown_keys.update(f"explanations: {key}" for key in unknown)
        counts.rows["explanations"] += 1
        index = index_of(place, fields)
        text = fields.get("description")
        if not isinstance(text, str):
            raise place.wrong(f"description is {text!r}, not a text")
        if not text.strip():
            counts.left_out["explanations without text"] += 1
            return
        own = fields.get("facet")
        if isinstance(own, dict) and isinstance(own.get("method"), str) and isinstance(own.get("evidence"), dict):
            # It was made by a method of Facet and travelled.
            self._rows.append((own["method"][:_METHOD_LENGTH], index, text.strip(), own["evidence"]))
            return
        evidence: dict[str, Any] = {"imported_from": "Neuronpedia"}
        evidence |= {key: fields[key] for key in _ORIGIN if fields.get(key) is not None}
        if scores := {key: fields[key] for key in _SCORES if fields.get(key)}:
            evidence["scores"] = scores
        self._rows.append((method_of(fields), index, text.strip(), evidence))

    def finish(self) -> None:
        """Write all explanations."""
        self._writer.lines("explanations", self._rows)
        self._writer.facts["methods"] = sorted({method for method, *_ in self._rows})


def method_of(fields: dict[str, Any]) -> str:
    """Return `neuronpedia/TYPE/MODEL` with what the line says of both."""
    parts = [fields.get(key) for key in ("typeName", "explanationModelName")]
    return "/".join([PREFIX, *(part for part in parts if isinstance(part, str) and part)])[:_METHOD_LENGTH]
