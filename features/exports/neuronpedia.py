"""Neuronpedia's export layout: what its importer reads, and beside it what it has no place for.

Every line of a kind has the same keys, because the importer takes the columns from a file's first line. Keys that are
no columns of its tables (`facet`), and files and folders beside the layout (`facet.json`, `silent/`), are passed over.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from django.utils import timezone

from features.exports.rows import ExampleRow, StoredDictionary, snapshot
from features.imports import figures
from features.imports.features_on_disk import TOKEN_COLUMNS
from features.models import Explanation
from features.rows import FEATURE_COLUMNS, LISTS
from inference.dashboards.results import BANDS, HARD_SILENT, TOP
from inference.errors import Conflict

# The account that Neuronpedia's own seed makes: rows must belong to somebody whom its database knows.
CREATOR_ID = "clkht01d40000jv08hvalcvly"
FORMAT = 1
GZIP_LEVEL = 5
N_LOGITS = 10
N_BARS = 50
# Of one file, unpacked: the importer makes a single string of it, and its engine has none of 2^29 characters.
MOST_CHARACTERS = 500_000_000
# Lists of the importer's tables of which Facet knows nothing; published files carry them empty.
_EMPTY = (
    *("neuron_alignment_indices", "neuron_alignment_values", "neuron_alignment_l1"),
    *("correlated_neurons_indices", "correlated_neurons_pearson", "correlated_neurons_l1"),
    *("correlated_features_indices", "correlated_features_pearson", "correlated_features_l1"),
    *("decoder_weights_dist", "vector"),
)
# Lists that are stored as 16-bit floats: five figures tell them apart.
_IN_16_BITS = tuple(name for name in LISTS if name.endswith(("_shares", "_values", "_jaccards", "_cosines")))
# What describes the dashboards rather than the place where they are stored.
_STATS = (
    *("n_tokens", "n_contexts", "l0_mean", "l0_median", "l0_p90", "explained_variance", "mean_squared_error"),
    *("dead", "dense", "log_edges", "densities", "co_firing_exact", "co_firing_measure", "provenance"),
)
Tell = Callable[[int, int], None]


def write_neuronpedia(
    model: str, source: str, folder: Path, *, tell: Tell = lambda done, total: None, creator_id: str = CREATOR_ID
) -> Path:
    """Write a dictionary below `folder` as `MODEL/SOURCE/`; return that folder, which appears when it is complete.

    `tell` is told features done and in all. Raises UnknownAddress, NotBuilt, and Conflict where the folder is there.
    """
    target = Path(folder) / model / source
    if target.exists():
        raise Conflict(f"{target} is there already.", "Remove it, or export to another folder.", path=str(target))
    scratch = target.with_name(f"{source}.part")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    with snapshot():
        _Writer(StoredDictionary(model, source), scratch, creator_id).write(tell)
    os.replace(scratch, target)
    return target


class _Writer:
    """Writes one dictionary."""

    def __init__(self, stored: StoredDictionary, folder: Path, creator_id: str) -> None:
        self.stored, self.folder, self.creator_id = stored, folder, creator_id
        self.model, self.source = stored.row.model.slug, stored.row.source
        self.now = _moment(timezone.now())
        self.counts: Counter[str] = Counter()
        self._log_edges = stored.row.stats.get("log_edges") or figures.LOG_EDGES_E.tolist()
        self._tokens_json: dict[int, str] = {}
        # Ids must be unique in the database that reads them, and the same when the same dashboards are written again.
        digest = hashlib.sha256(f"{self.model}/{self.source}/{stored.row.built_at}".encode()).hexdigest()
        self._id_prefix = f"c{digest[:15]}"
        self._n_ids = 0
        self._n_files: Counter[str] = Counter()

    def write(self, tell: Tell) -> None:
        """Write all files."""
        for name, line in (
            ("release", self._release()),
            ("model", self._model()),
            ("sourceset", self._source_set()),
            ("source", self._source()),
        ):
            (self.folder / f"{name}.jsonl").write_text(f"{json.dumps(line)}\n")
        for first in self.stored.batches:
            tell(first, self.stored.row.n_features)
            features = list(self.stored.features(first))
            maxima = {row["index"]: row for row in features}
            examples = self.stored.examples(first)
            self._tokens_json.clear()
            self._batch("features", map(self._feature, features))
            firing = (row for row in examples if row.group < HARD_SILENT and row.index in maxima)
            self._batch("activations", (self._activation(row, maxima[row.index]) for row in firing))
            silent = (row for row in examples if row.group >= HARD_SILENT and row.index in maxima)
            self._batch("silent", map(self._silent, silent))
            explanations = list(self.stored.explanations(first))
            self._batch("explanations", map(self._explanation, explanations))
        tell(self.stored.row.n_features, self.stored.row.n_features)
        (self.folder / "facet.json").write_text(json.dumps(self._own(), indent=1))

    def _batch(self, kind: str, lines: Iterator[str]) -> None:
        """Write lines to the next file of a kind, or to several; to none where there are no lines.

        The importer takes the columns from a file's first line; whoever asks for files by name stops at a number that
        is not there.
        """
        line = next(lines, None)
        while line is not None:
            folder = self.folder / kind
            folder.mkdir(exist_ok=True)
            path = folder / f"batch-{self._n_files[kind]}.jsonl.gz"
            self._n_files[kind] += 1
            with path.open("wb") as raw, gzip.GzipFile("", "wb", GZIP_LEVEL, raw, mtime=0) as file:
                room = MOST_CHARACTERS
                while line is not None and (room == MOST_CHARACTERS or len(line) < room):
                    room -= file.write(f"{line}\n".encode())
                    self.counts[kind] += 1
                    line = next(lines, None)

    # --- small files: exactly the columns of the importer's tables -------------------------------------------------

    def _release(self) -> dict[str, Any]:
        release = self.stored.row.release
        title = release.name if release else "Made with Facet"
        return {
            "name": release.slug if release else "facet",
            "visibility": "PUBLIC",
            "isNewUi": True,
            "featured": False,
            "description": (release.description if release else "") or title,
            "descriptionShort": title,
            "urls": [release.url] if release and release.url else [],
            "creatorName": "Facet",
            "creatorNameShort": "Facet",
            "creatorId": self.creator_id,
            "defaultUmapSourceIds": [],
            "createdAt": self.now,
        }

    def _model(self) -> dict[str, Any]:
        model = self.stored.row.model
        return {
            "id": model.slug,
            "displayNameShort": model.name,
            "displayName": model.name,
            "creatorId": self.creator_id,
            "dimension": model.d_model or None,
            "visibility": "PUBLIC",
            "inferenceEnabled": False,
            "instruct": False,
            "layers": model.n_layers,
            "neuronsPerLayer": model.d_mlp,
            "owner": "",
            "createdAt": self.now,
            "updatedAt": self.now,
        }

    def _source_set(self) -> dict[str, Any]:
        row = self.stored.row
        return {
            "modelId": self.model,
            "name": self._set_name,
            "hasDashboards": True,
            "allowInferenceSearch": False,
            "visibility": "PUBLIC",
            "description": f"{row.architecture}, {row.n_features} features at {row.hook_point}",
            "type": "",
            "creatorName": "Facet",
            "urls": [],
            "creatorId": self.creator_id,
            "releaseName": self._release()["name"],
            "createdAt": self.now,
        }

    def _source(self) -> dict[str, Any]:
        row = self.stored.row
        return {
            "id": self.source,
            "modelId": self.model,
            "hasDashboards": True,
            "inferenceEnabled": False,
            "saelensConfig": {
                "architecture": row.architecture,
                "d_in": row.d_in,
                "d_sae": row.n_features,
                "hook_name": row.hook_point,
            },
            "visibility": "PUBLIC",
            "setName": self._set_name,
            "creatorId": self.creator_id,
            "num_prompts": row.stats.get("n_contexts"),
            "num_tokens_in_prompt": self.stored.tokenization.context_size,
            "dataset": self.stored.tokenization.corpus.name,
            "notes": f"Built by Facet; sha256 of the dictionary's weights: {row.sha256 or 'not known'}",
            "createdAt": self.now,
        }

    @property
    def _set_name(self) -> str:
        return self.source.partition("-")[2]

    # --- lines ------------------------------------------------------------------------------------------------------

    def _feature(self, stored: dict[str, Any]) -> str:
        row = stored | {name: [float(f"{value:.5g}") for value in stored[name]] for name in _IN_16_BITS}
        middles, heights = figures.bars(self._log_edges, row["histogram"], n_bins=N_BARS, high=row["maximum"])
        n_logit_bins = len(row["logit_histogram"])
        edges = np.linspace(row["logit_low"], row["logit_high"], n_logit_bins + 1)
        line = {
            "modelId": self.model,
            "layer": self.source,
            "index": str(row["index"]),
            "sourceSetName": self._set_name,
            "creatorId": self.creator_id,
            "createdAt": self.now,
            "maxActApprox": row["maximum"],
            "hasVector": False,
            "hookName": self.stored.row.hook_point,
            "topkCosSimIndices": row["decoder_neighbour_ids"],
            "topkCosSimValues": row["decoder_neighbour_cosines"],
            "neg_str": self.stored.texts(row["suppressed_ids"][:N_LOGITS]),
            "neg_values": row["suppressed_values"][:N_LOGITS],
            "pos_str": self.stored.texts(row["promoted_ids"][:N_LOGITS]),
            "pos_values": row["promoted_values"][:N_LOGITS],
            "frac_nonzero": row["firing_count"] / self.stored.n_tokens if self.stored.n_tokens else 0.0,
            "freq_hist_data_bar_heights": [round(height, 2) for height in heights],
            "freq_hist_data_bar_values": [float(f"{middle:.6g}") for middle in middles],
            "logits_hist_data_bar_heights": row["logit_histogram"],
            "logits_hist_data_bar_values": [float(f"{middle:.6g}") for middle in (edges[:-1] + edges[1:]) / 2]
            if n_logit_bins
            else [],
            **{name: [] for name in _EMPTY},
            **self._correlated(row),
            "facet": {"columns": {name: row[name] for name in FEATURE_COLUMNS if name != "index"}},
        }
        ids = sorted({token for name in TOKEN_COLUMNS for token in row[name]})
        line["facet"]["tokens"] = dict(zip(map(str, ids), self.stored.texts(ids), strict=True))
        return json.dumps(line)

    def _correlated(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return with which features one correlates, where an import has said it: Facet measures Jaccard indices."""
        if self.stored.row.stats.get("co_firing_measure") != "correlation":
            return {}
        return {
            "correlated_features_indices": row["co_firing_ids"],
            "correlated_features_pearson": row["co_firing_jaccards"],
        }

    def _activation(self, row: ExampleRow, feature: dict[str, Any]) -> str:
        maximum = feature["maximum"]
        if row.group == TOP:
            bins = (-1, maximum, -1)
        else:
            low, high = BANDS[row.group]
            count = feature["firing_count"]
            share = feature["band_counts"][list(BANDS).index(row.group)] / count if count else 0.0
            bins = (low * maximum, high * maximum, min(1.0, share))
        values = self._values(row)
        strongest = max(range(len(row.values)), key=row.values.__getitem__, default=None)
        place = row.positions[strongest] if strongest is not None else row.peak_position
        return self._line(row, values, maximum=max(row.peak_value, *row.values), place=place, bins=bins)

    def _silent(self, row: ExampleRow) -> str:
        values = ["0"] * len(self.stored.context(row.context).tokens)
        return self._line(row, values, maximum=row.peak_value, place=row.peak_position, bins=(0, 0, 0))

    def _line(
        self, row: ExampleRow, values: list[str], *, maximum: float, place: int, bins: tuple[float, float, float]
    ) -> str:
        context = self.stored.context(row.context)
        own: dict[str, Any] = {"group": row.group}
        if context.is_test:
            own["held_out"] = True
        if context.n_similar:
            own["n_similar"] = context.n_similar
        end = {
            "modelId": self.model,
            "layer": self.source,
            "index": str(row.index),
            "maxValue": maximum,
            "maxValueTokenIndex": place,
            "minValue": 0,
            "binMin": bins[0],
            "binMax": bins[1],
            "binContains": bins[2],
            "qualifyingTokenIndex": row.peak_position,
            "dataSource": self.stored.tokenization.corpus.slug,
            "dataIndex": f"{context.document}:{context.line}",
            "creatorId": self.creator_id,
            "createdAt": self.now,
            "facet": own,
        }
        start = f'{{"id": "{self._next_id()}", "tokens": {self._tokens(row.context)}, "values": [{", ".join(values)}], '
        return start + json.dumps(end)[1:]

    def _values(self, row: ExampleRow) -> list[str]:
        """Return the context's values; five figures tell 16-bit floats apart, and the peak is written as stored."""
        values = ["0"] * len(self.stored.context(row.context).tokens)
        for position, value in zip(row.positions, row.values, strict=True):
            values[position] = f"{value:.5g}"
        if row.peak_value:
            values[row.peak_position] = f"{row.peak_value:.9g}"
        return values

    def _tokens(self, context: int) -> str:
        if context not in self._tokens_json:
            self._tokens_json[context] = json.dumps(self.stored.context(context).tokens)
        return self._tokens_json[context]

    def _explanation(self, row: Explanation) -> str:
        evidence = row.evidence if isinstance(row.evidence, dict) else {}
        imported = evidence.get("imported_from") == "Neuronpedia"
        line: dict[str, Any] = {
            "id": self._next_id(),
            "modelId": self.model,
            "layer": self.source,
            "index": str(row.index),
            "authorId": self.creator_id,
            "description": row.text,
            "typeName": evidence.get("typeName") if imported else None,
            "explanationModelName": evidence.get("explanationModelName") if imported else None,
            "notes": evidence.get("notes") if imported else f"Facet: {row.method or 'a label by a person'}",
        }
        if row.author is not None:
            line["author"] = row.author.get_username()
        else:
            line["facet"] = {"method": row.method, "evidence": evidence}
        return json.dumps(line)

    def _own(self) -> dict[str, Any]:
        row = self.stored.row
        return {
            "format": FORMAT,
            "counts": dict(self.counts),
            "hook_point_out": row.hook_point_out,
            "stats": {name: row.stats[name] for name in _STATS if name in row.stats},
        }

    def _next_id(self) -> str:
        self._n_ids += 1
        return f"{self._id_prefix}{self._n_ids:09x}"


def _moment(moment: datetime) -> str:
    """Return a time as Neuronpedia's database client takes it."""
    return moment.astimezone(timezone.get_fixed_timezone(0)).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
