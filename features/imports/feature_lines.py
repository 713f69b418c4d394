"""Features of one file as arrays: suffix F features, B bins or bands, M powers, K kept entries."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from features.imports import figures
from features.imports.activations import Numbers, feature_number, is_there
from features.imports.lines import NOTHING, Place
from features.imports.shards import ShardWriter

CHUNK = 1024


class Figures(msgspec.Struct, forbid_unknown_fields=True):
    """What the lines of both layouts say of a feature: all keys that are known, those without a use as they stand."""

    maxActApprox: float | None = None
    frac_nonzero: float | None = None
    freq_hist_data_bar_heights: list[float] | None = None
    freq_hist_data_bar_values: list[float] | None = None
    logits_hist_data_bar_heights: list[float] | None = None
    logits_hist_data_bar_values: list[float] | None = None
    pos_str: list[str] | None = None
    pos_values: list[float] | None = None
    neg_str: list[str] | None = None
    neg_values: list[float] | None = None
    topkCosSimIndices: list[int] | None = None
    topkCosSimValues: list[float] | None = None
    correlated_features_indices: list[int] | None = None
    correlated_features_pearson: list[float] | None = None
    hookName: str | None = None
    vector: msgspec.Raw = NOTHING
    vectorLabel: str | None = None
    facet: msgspec.Raw = NOTHING
    neuron_alignment_indices: msgspec.Raw = NOTHING
    correlated_neurons_indices: msgspec.Raw = NOTHING
    decoder_weights_dist: msgspec.Raw = NOTHING
    umap_x: msgspec.Raw = NOTHING
    correlated_features_l1: msgspec.Raw = NOTHING
    neuron_alignment_values: msgspec.Raw = NOTHING
    neuron_alignment_l1: msgspec.Raw = NOTHING
    correlated_neurons_pearson: msgspec.Raw = NOTHING
    correlated_neurons_l1: msgspec.Raw = NOTHING
    umap_y: msgspec.Raw = NOTHING
    umap_cluster: msgspec.Raw = NOTHING
    umap_log_feature_sparsity: msgspec.Raw = NOTHING


class FeatureLine(Figures, kw_only=True, forbid_unknown_fields=True):
    """A line of the export layout."""

    index: int | str
    modelId: msgspec.Raw = NOTHING
    layer: msgspec.Raw = NOTHING
    sourceSetName: msgspec.Raw = NOTHING
    creatorId: msgspec.Raw = NOTHING
    createdAt: msgspec.Raw = NOTHING
    hasVector: msgspec.Raw = NOTHING
    vectorDefaultSteerStrength: msgspec.Raw = NOTHING


class BatchFeature(Figures, kw_only=True, forbid_unknown_fields=True):
    """A feature in a batch of SAEDashboard, with its activations."""

    feature_index: int
    activations: list[msgspec.Raw] | None = None
    n_prompts_total: int | None = None
    n_tokens_in_prompt: int | None = None
    dataset: str | None = None


# What Facet has no place for, where a line carries it.
_NOT_KEPT = ("neuron_alignment_indices", "correlated_neurons_indices", "decoder_weights_dist", "vector", "umap_x")
_FACTS = ("hookName", "n_prompts_total", "n_tokens_in_prompt", "dataset")
# Lists of a feature: the column of its ids and that of what is paired with them.
_PAIRED = {
    "pos": ("pos_str", "pos_values"),
    "neg": ("neg_str", "neg_values"),
    "near": ("topkCosSimIndices", "topkCosSimValues"),
    "with": ("correlated_features_indices", "correlated_features_pearson"),
}


class FeatureShard:
    """Collects the features of a file; `finish` writes them to the shard."""

    def __init__(self, writer: ShardWriter) -> None:
        self._writer = writer
        self._strings = Numbers()
        self._columns: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
        self._done: dict[str, list[np.ndarray]] = {name: [] for name in _COLUMNS}
        self._bars: list[tuple[list[float], ...]] = []
        self._exact: list[msgspec.Raw] = []
        self._labels: list[tuple[int, str]] = []
        self._seen: set[int] = set()

    def add(self, place: Place, line: FeatureLine | BatchFeature) -> int:
        """Take a feature and return its index; raise BadFile where lists do not fit together.

        Of two lines of one feature the first counts.
        """
        counts = self._writer.counts
        index = feature_number(line.index if isinstance(line, FeatureLine) else line.feature_index, place)
        counts.rows["features"] += 1
        if index in self._seen:
            counts.duplicates["features"] += 1
            return index
        self._seen.add(index)
        for key in _NOT_KEPT:
            if is_there(getattr(line, key)):
                counts.left_out[f"features: {key}"] += 1
        self._note(line)
        bars = (
            _paired(place, line, "freq_hist_data_bar_values", "freq_hist_data_bar_heights"),
            _paired(place, line, "logits_hist_data_bar_values", "logits_hist_data_bar_heights"),
        )
        self._bars.append(sum(bars, ()))
        columns = self._columns
        columns["index_f"].append(index)
        columns["maximum_f"].append(np.nan if line.maxActApprox is None else line.maxActApprox)
        columns["fraction_f"].append(np.nan if line.frac_nonzero is None else line.frac_nonzero)
        for name, (first, second) in _PAIRED.items():
            ids, values = _paired(place, line, first, second)
            if name in ("pos", "neg"):
                ids = list(map(self._strings.__getitem__, ids))
            columns[f"{name}_id_fk"].append(ids)
            columns[f"{name}_value_fk"].append(values)
        self._exact.append(line.facet)
        if line.vectorLabel and line.vectorLabel.strip():
            self._labels.append((index, line.vectorLabel.strip()))
        if len(self._bars) >= CHUNK:
            self._digest()
        return index

    def finish(self) -> None:
        """Write all arrays; lists are padded with -1 and 0."""
        self._digest()
        for name, arrays in self._done.items():
            self._writer.array(name, _joined(name, arrays))
        self._writer.lines("strings", list(self._strings))
        if self._labels:
            self._writer.counts.rows["labels"] += len(self._labels)
            self._writer.lines("labels", self._labels)
            self._writer.facts["labels"] = True
        if any(map(is_there, self._exact)):
            self._writer.lines("exact", self._exact)
            self._writer.facts["exact"] = True

    def _digest(self) -> None:
        """Turn what waits into arrays: lists by the hundred thousand would keep Python's collector busy."""
        columns: dict[str, Any] = self._columns
        maximum_f = np.array(columns["maximum_f"], dtype=np.float64)
        columns |= figures.of_histograms(self._bars, maximum_f)
        for name, rows in columns.items():
            self._done[name].append(_array(name, rows))
        self._columns = {name: [] for name in _COLUMNS}
        self._bars = []

    def _note(self, line: FeatureLine | BatchFeature) -> None:
        """Keep the first mention of what is the same for all features."""
        facts = self._writer.facts
        for key in _FACTS:
            if key not in facts and getattr(line, key, None):
                facts[key] = getattr(line, key)
        if "d_in" not in facts and is_there(line.vector):
            facts["d_in"] = len(msgspec.json.decode(line.vector, type=list[msgspec.Raw]))


_COLUMNS = {
    "index_f": np.int32,
    "maximum_f": np.float32,
    "fraction_f": np.float64,
    "height_f": np.float64,
    "share_fb": np.float32,
    "band_fb": np.float32,
    "power_fm": np.float64,
    "logit_fm": np.float32,
    "logit_count_fk": np.int64,
    "pos_id_fk": np.int32,
    "pos_value_fk": np.float32,
    "neg_id_fk": np.int32,
    "neg_value_fk": np.float32,
    "near_id_fk": np.int32,
    "near_value_fk": np.float32,
    "with_id_fk": np.int32,
    "with_value_fk": np.float32,
}


def _array(name: str, rows: list[Any]) -> np.ndarray:
    dtype = _COLUMNS[name]
    lengths = {len(row) for row in rows} if name.endswith(("_fk", "_fb", "_fm")) else {0}
    if len(lengths) == 1:
        return np.array(rows, dtype=dtype)
    array = np.full((len(rows), max(lengths, default=0)), _padding(dtype), dtype=dtype)
    for number, row in enumerate(rows):
        array[number, : len(row)] = row
    return array


def _joined(name: str, arrays: list[np.ndarray]) -> np.ndarray:
    """Return the rows of arrays one below the other, all as wide as the widest."""
    if arrays[0].ndim == 1:
        return np.concatenate(arrays)
    width = max(array.shape[1] for array in arrays)
    wide = [((0, 0), (0, width - array.shape[1])) for array in arrays]
    padding = _padding(_COLUMNS[name])
    return np.concatenate([np.pad(a, w, constant_values=padding) for a, w in zip(arrays, wide, strict=True)])


def _padding(dtype: Any) -> int:
    return 0 if dtype == np.float32 else -1


def _paired(place: Place, line: Figures, first: str, second: str) -> tuple[list[Any], list[float]]:
    """Return two lists of the same length; raise BadFile where they are not."""
    ids, values = getattr(line, first) or [], getattr(line, second) or []
    if len(ids) != len(values):
        raise place.wrong(f"{second} has {len(values)} entries where {len(ids)} are expected")
    return ids, values
