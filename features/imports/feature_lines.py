"""Features of one file as arrays: suffix F features, B bins or bands, M powers, K kept entries."""

from __future__ import annotations

from typing import Any

import numpy as np

from features.imports import figures
from features.imports.activations import index_of
from features.imports.lines import Place
from features.imports.shards import ShardWriter

_LISTS = {
    "pos": ("pos_str", "pos_values"),
    "neg": ("neg_str", "neg_values"),
}
_NOT_KEPT = (
    *("neuron_alignment_indices", "correlated_neurons_indices", "correlated_features_indices"),
    *("decoder_weights_dist", "vector", "umap_x"),
)
_KNOWN = frozenset(
    {
        *(
            "modelId",
            "layer",
            "index",
            "sourceSetName",
            "creatorId",
            "createdAt",
            "maxActApprox",
            "hasVector",
            "vector",
        ),
        *("vectorLabel", "vectorDefaultSteerStrength", "hookName", "topkCosSimIndices", "topkCosSimValues"),
        *("neuron_alignment_indices", "neuron_alignment_values", "neuron_alignment_l1"),
        *("correlated_neurons_indices", "correlated_neurons_pearson", "correlated_neurons_l1"),
        *("correlated_features_indices", "correlated_features_pearson", "correlated_features_l1"),
        *("neg_str", "neg_values", "pos_str", "pos_values", "frac_nonzero", "decoder_weights_dist"),
        *("freq_hist_data_bar_heights", "freq_hist_data_bar_values"),
        *("logits_hist_data_bar_heights", "logits_hist_data_bar_values"),
        *("umap_cluster", "umap_log_feature_sparsity", "umap_x", "umap_y", "facet"),
        # a batch of SAEDashboard
        *("feature_index", "n_prompts_total", "n_tokens_in_prompt", "dataset", "activations"),
    }
)


class FeatureShard:
    """Collects the features of a file; `finish` writes them to the shard."""

    def __init__(self, writer: ShardWriter) -> None:
        self._writer = writer
        self._strings: dict[str, int] = {}
        self._columns: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
        self._exact: list[Any] = []
        self._seen: set[int] = set()

    def add(self, place: Place, fields: dict[str, Any], *, index_name: str = "index") -> None:
        """Take a line; raise BadFile where its types are wrong. Of two lines of one feature the first counts."""
        counts = self._writer.counts
        if unknown := fields.keys() - _KNOWN:
            counts.unknown_keys.update(f"features: {key}" for key in unknown)
        index = index_of(place, fields, index_name)
        counts.rows["features"] += 1
        if index in self._seen:
            counts.duplicates["features"] += 1
            return
        self._seen.add(index)
        for key in _NOT_KEPT:
            if fields.get(key):
                counts.left_out[f"features: {key}"] += 1
        self._note(fields)
        heights = _numbers(place, fields, "freq_hist_data_bar_heights")
        middles = _numbers(place, fields, "freq_hist_data_bar_values")
        maximum = _number(place, fields, "maxActApprox")
        if len(heights) != len(middles):
            raise place.wrong(f"its histogram has {len(middles)} values and {len(heights)} heights")
        found = figures.activations(middles, heights, maximum or (middles[-1] if middles else 0.0))
        effects = figures.logits(
            _numbers(place, fields, "logits_hist_data_bar_values"),
            _numbers(place, fields, "logits_hist_data_bar_heights"),
        )
        columns = self._columns
        columns["index_f"].append(index)
        columns["maximum_f"].append(np.nan if maximum is None else maximum)
        fraction = _number(place, fields, "frac_nonzero")
        columns["fraction_f"].append(np.nan if fraction is None else fraction)
        columns["height_f"].append(sum(heights))
        columns["share_fb"].append(found.share_b)
        columns["band_fb"].append(found.band_b)
        columns["power_fm"].append(found.power_m)
        columns["logit_fm"].append([effects.low, effects.high, effects.deviation, effects.skewness, effects.kurtosis])
        columns["logit_count_fk"].append(effects.counts)
        for name, (strings, values) in _LISTS.items():
            ids = [self._string(string) for string in _strings(place, fields, strings)]
            columns[f"{name}_id_fk"].append(ids)
            columns[f"{name}_value_fk"].append(_paired(place, fields, values, len(ids)))
        near = [int(number) for number in _numbers(place, fields, "topkCosSimIndices")]
        columns["near_id_fk"].append(near)
        columns["near_value_fk"].append(_paired(place, fields, "topkCosSimValues", len(near)))
        self._exact.append(fields.get("facet"))

    def finish(self) -> None:
        """Write all arrays; lists are padded with -1 and 0."""
        for name, rows in self._columns.items():
            self._writer.array(name, _array(name, rows))
        self._writer.lines("strings", list(self._strings))
        if any(self._exact):
            self._writer.lines("exact", self._exact)
            self._writer.facts["exact"] = True

    def _string(self, string: str) -> int:
        return self._strings.setdefault(string, len(self._strings))

    def _note(self, fields: dict[str, Any]) -> None:
        """Keep the first mention of what is the same for all features."""
        facts = self._writer.facts
        for key in ("hookName", "n_prompts_total", "n_tokens_in_prompt", "dataset"):
            if fields.get(key) and key not in facts:
                facts[key] = fields[key]
        if isinstance(fields.get("vector"), list) and fields["vector"]:
            facts.setdefault("d_in", len(fields["vector"]))


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
}


def _array(name: str, rows: list[Any]) -> np.ndarray:
    dtype = _COLUMNS[name]
    if not name.endswith("_fk"):
        return np.array(rows, dtype=dtype)
    array = np.full((len(rows), max(map(len, rows), default=0)), 0 if dtype == np.float32 else -1, dtype=dtype)
    for number, row in enumerate(rows):
        array[number, : len(row)] = row
    return array


def _number(place: Place, fields: dict[str, Any], name: str) -> float | None:
    value = fields.get(name)
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value)):
        return value
    raise place.wrong(f"{name} is {value!r}, not a number")


def _numbers(place: Place, fields: dict[str, Any], name: str) -> list[float]:
    values = fields.get(name) or []
    if not isinstance(values, list) or not all(isinstance(value, int | float) for value in values):
        raise place.wrong(f"{name} is not a list of numbers")
    if values and not np.isfinite(values).all():
        raise place.wrong(f"{name} has numbers that are not finite")
    return values


def _strings(place: Place, fields: dict[str, Any], name: str) -> list[str]:
    values = fields.get(name) or []
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise place.wrong(f"{name} is not a list of strings")
    return values


def _paired(place: Place, fields: dict[str, Any], name: str, n: int) -> list[float]:
    values = _numbers(place, fields, name)
    if len(values) != n:
        raise place.wrong(f"{name} has {len(values)} entries where {n} are expected")
    return values
