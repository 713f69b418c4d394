"""What Neuronpedia's importer asks of files, as tables: column, type, and what must be there.

The importer takes the columns of a kind from the first line of a file, passes over those that its table lacks, and
inserts all lines in one statement over a JSON array; the four small files become rows through its database client,
which knows no other keys than the columns.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from features.exports import neuronpedia
from features.exports.neuronpedia import CREATOR_ID, write_neuronpedia
from features.exports.rows import BATCH
from features.models import Dictionary, Explanation
from tests.features.conftest import N_FEATURES, World

# Types are Postgres'; `!` marks columns that must not be null and that the database does not fill in by itself.
FEATURE = {
    "modelId": "text!", "layer": "text!", "index": "text!", "sourceSetName": "text", "creatorId": "text",
    "createdAt": "timestamp", "maxActApprox": "float8", "hasVector": "boolean", "vector": "float8[]",
    "vectorLabel": "text", "vectorDefaultSteerStrength": "float8", "hookName": "text",
    "topkCosSimIndices": "integer[]", "topkCosSimValues": "float8[]",
    "neuron_alignment_indices": "integer[]", "neuron_alignment_values": "float8[]", "neuron_alignment_l1": "float8[]",
    "correlated_neurons_indices": "integer[]", "correlated_neurons_pearson": "float8[]",
    "correlated_neurons_l1": "float8[]", "correlated_features_indices": "integer[]",
    "correlated_features_pearson": "float8[]", "correlated_features_l1": "float8[]",
    "neg_str": "text[]", "neg_values": "float8[]", "pos_str": "text[]", "pos_values": "float8[]",
    "frac_nonzero": "float8", "freq_hist_data_bar_heights": "float8[]", "freq_hist_data_bar_values": "float8[]",
    "logits_hist_data_bar_heights": "float8[]", "logits_hist_data_bar_values": "float8[]",
    "decoder_weights_dist": "float8[]", "umap_cluster": "integer", "umap_log_feature_sparsity": "float8",
    "umap_x": "float8", "umap_y": "float8",
}  # fmt: skip
ACTIVATION = {
    "id": "text!", "tokens": "text[]!", "dataIndex": "text", "index": "text!", "layer": "text!", "modelId": "text!",
    "dataSource": "text", "maxValue": "float8!", "maxValueTokenIndex": "integer!", "minValue": "float8!",
    "values": "float8[]!", "dfaValues": "float8[]", "dfaTargetIndex": "integer", "dfaMaxValue": "float8",
    "zQIndices": "integer[]", "zKIndices": "integer[]", "zValues": "float8[]", "creatorId": "text!",
    "createdAt": "timestamp", "lossValues": "float8[]", "logitContributions": "text", "binMin": "float8",
    "binMax": "float8", "binContains": "float8", "qualifyingTokenIndex": "integer",
}  # fmt: skip
EXPLANATION = {
    "id": "text!", "modelId": "text!", "layer": "text!", "index": "text!", "description": "text!",
    "authorId": "text!", "triggeredByUserId": "text", "notes": "text", "scoreV1": "float8", "scoreV2": "float8",
    "umap_x": "float8", "umap_y": "float8", "umap_cluster": "integer", "umap_log_feature_sparsity": "float8",
    "typeName": "text", "explanationModelName": "text", "createdAt": "timestamp", "updatedAt": "timestamp",
}  # fmt: skip
LINES = {"features": FEATURE, "activations": ACTIVATION, "explanations": EXPLANATION}
# What the layout has no place for; the importer passes over it.
BESIDE = {"features": {"facet"}, "activations": {"facet"}, "explanations": {"facet", "author"}}
# Columns of features that published files carry in every line; lists are empty where Facet has nothing to say.
CARRIED = set(FEATURE) - {
    "createdAt", "vectorLabel", "vectorDefaultSteerStrength", "umap_cluster", "umap_log_feature_sparsity", "umap_x",
    "umap_y",
}  # fmt: skip
JSON_TYPES = {"text": str, "boolean": bool, "integer": int, "timestamp": str}
# The small files: keys with their types, and which of them a new row needs.
SMALL = {
    "release": (
        {"name": str, "visibility": str, "isNewUi": bool, "featured": bool, "description": str,
         "descriptionShort": str, "urls": list, "creatorEmail": str, "creatorName": str, "creatorNameShort": str,
         "creatorId": str, "defaultSourceSetName": str, "defaultSourceId": str, "defaultUmapSourceIds": list,
         "createdAt": str},
        {"name", "description", "urls", "creatorName", "creatorId"},
    ),
    "model": (
        {"id": str, "displayNameShort": str, "displayName": str, "creatorId": str, "tlensId": str,
         "openRouterId": str, "dimension": int, "thinking": bool, "visibility": str, "defaultSourceSetName": str,
         "defaultSourceId": str, "inferenceEnabled": bool, "instruct": bool, "layers": int, "neuronsPerLayer": int,
         "createdAt": str, "owner": str, "updatedAt": str, "website": str},
        {"id", "creatorId", "layers", "neuronsPerLayer", "owner"},
    ),
    "sourceset": (
        {"modelId": str, "name": str, "hasDashboards": bool, "allowInferenceSearch": bool, "visibility": str,
         "description": str, "type": str, "creatorName": str, "urls": list, "creatorEmail": str, "creatorId": str,
         "releaseName": str, "defaultRange": int, "defaultShowBreaks": bool, "showDfa": bool,
         "showCorrelated": bool, "showHeadAttribution": bool, "showUmap": bool, "createdAt": str},
        {"modelId", "name", "description", "creatorName", "urls", "creatorId"},
    ),
    "source": (
        {"id": str, "modelId": str, "hasDashboards": bool, "inferenceEnabled": bool, "saelensConfig": dict,
         "saelensRelease": str, "saelensSaeId": str, "hfRepoId": str, "hfFolderId": str, "visibility": str,
         "setName": str, "creatorId": str, "num_prompts": int, "num_tokens_in_prompt": int, "dataset": str,
         "notes": str, "createdAt": str},
        {"id", "modelId", "setName", "creatorId"},
    ),
}  # fmt: skip
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.fixture
def source(world: World, user, tmp_path: Path) -> Path:
    """Export a dictionary that has explanations by methods and a label by a person."""
    row = Dictionary.objects.get(model__slug="tiny", source="1-res-topk")
    Explanation.objects.create(dictionary=row, index=5, text="a label", author=user)
    return write_neuronpedia("tiny", "1-res-topk", tmp_path)


def rows_of(source: Path, kind: str) -> Iterator[dict[str, Any]]:
    for path in sorted((source / kind).iterdir()):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            yield from map(json.loads, file)


def fits(value: Any, kind: str) -> bool:
    """Tell whether a JSON value becomes a column of a type without a loss."""
    plain = kind.removesuffix("!")
    if value is None:
        return not kind.endswith("!")
    if plain.endswith("[]"):
        return isinstance(value, list) and all(fits(entry, f"{plain[:-2]}!") for entry in value)
    if plain == "float8":
        return isinstance(value, int | float) and not isinstance(value, bool)
    if plain == "timestamp":
        return isinstance(value, str) and MOMENT.fullmatch(value) is not None
    return type(value) is JSON_TYPES[plain]


@pytest.mark.parametrize("kind", LINES)
def test_lines_have_the_columns(source: Path, kind: str) -> None:
    rows = list(rows_of(source, kind))
    assert rows
    for row in rows:
        assert row.keys() <= LINES[kind].keys() | BESIDE[kind]
        assert {name for name, type_ in LINES[kind].items() if type_.endswith("!")} <= row.keys()
        assert [name for name in row.keys() & LINES[kind].keys() if not fits(row[name], LINES[kind][name])] == []
        # The first line of a file says which columns there are.
        assert row.keys() - BESIDE[kind] == rows[0].keys() - BESIDE[kind]
    if kind == "features":
        assert rows[0].keys() >= CARRIED


@pytest.mark.parametrize("name", SMALL)
def test_small_files_have_no_other_keys(source: Path, name: str) -> None:
    (line,) = (source / f"{name}.jsonl").read_text().splitlines()
    row = json.loads(line)
    types, needed = SMALL[name]
    assert row.keys() <= types.keys()
    assert all(row.get(key) is not None for key in needed)
    assert [key for key, value in row.items() if value is not None and type(value) is not types[key]] == []
    assert row.get("visibility") == "PUBLIC"


def test_files_are_named_and_sized_as_the_importer_lists_them(source: Path) -> None:
    assert (source.parent.name, source.name) == ("tiny", "1-res-topk")
    for kind in LINES:
        names = sorted(path.name for path in (source / kind).iterdir())
        assert names == [f"batch-{number}.jsonl.gz" for number in range(-(-N_FEATURES // BATCH))]
    assert BATCH == 1024


def test_no_file_is_longer_than_a_string_of_the_importer(world: World, tmp_path: Path, monkeypatch) -> None:
    """It reads a whole file into one string; the rest of too long a batch goes into files of the next numbers."""
    whole = write_neuronpedia("tiny", "1-res-topk", tmp_path / "whole")
    assert neuronpedia.MOST_CHARACTERS < (1 << 29) - 24
    monkeypatch.setattr(neuronpedia, "MOST_CHARACTERS", 60_000)
    cut = write_neuronpedia("tiny", "1-res-topk", tmp_path / "cut")
    for kind in LINES:
        paths = sorted((cut / kind).iterdir(), key=lambda path: int(path.name.split(".")[0].split("-")[1]))
        assert [path.name for path in paths] == [f"batch-{number}.jsonl.gz" for number in range(len(paths))]
        texts = [gzip.decompress(path.read_bytes()) for path in paths]
        assert max(map(len, texts)) <= 60_000
        (all_at_once,) = (whole / kind).iterdir()
        written = gzip.decompress(all_at_once.read_bytes())
        assert without_moments(b"".join(texts)) == without_moments(written)
        assert len(paths) >= len(written) // 60_000


def without_moments(data: bytes) -> bytes:
    return re.sub(rb'"createdAt": "[^"]*"', b"", data)


def test_rows_refer_to_each_other(source: Path) -> None:
    release, model, group, row = (
        json.loads((source / f"{name}.jsonl").read_text()) for name in ("release", "model", "sourceset", "source")
    )
    assert (group["releaseName"], group["modelId"]) == (release["name"], model["id"])
    assert (row["modelId"], row["setName"]) == (model["id"], group["name"])
    assert row["id"] == f"{row['id'].split('-')[0]}-{group['name']}"
    assert {row["creatorId"] for row in (release, model, group, row)} == {CREATOR_ID}
    for feature in rows_of(source, "features"):
        assert (feature["modelId"], feature["layer"], feature["sourceSetName"]) == (
            model["id"],
            row["id"],
            group["name"],
        )
        for ids, values in (("pos_str", "pos_values"), ("topkCosSimIndices", "topkCosSimValues"),
                            ("freq_hist_data_bar_values", "freq_hist_data_bar_heights")):  # fmt: skip
            assert len(feature[ids]) == len(feature[values])
    for line in rows_of(source, "activations"):
        assert len(line["tokens"]) == len(line["values"])
        assert line["values"][line["maxValueTokenIndex"]] == pytest.approx(max(line["values"]), rel=1e-3)
        assert line["maxValue"] == pytest.approx(max(line["values"]), rel=1e-3)
        assert 0 <= line["qualifyingTokenIndex"] < len(line["tokens"])
        assert line["binContains"] == -1 or 0 <= line["binMin"] < line["binMax"]


def test_a_database_takes_the_rows(source: Path) -> None:
    """Tables with these columns, keys and references take every line in the way in which the importer inserts it."""
    keys = {
        "features": 'PRIMARY KEY ("modelId", "layer", "index")',
        "activations": 'PRIMARY KEY (id), FOREIGN KEY ("modelId", "layer", "index") REFERENCES of_features',
        "explanations": 'PRIMARY KEY (id), FOREIGN KEY ("modelId", "layer", "index") REFERENCES of_features',
    }
    with connection.cursor() as cursor:
        for kind, columns in LINES.items():
            listed = ", ".join(f'"{name}" {type_.replace("!", " NOT NULL")}' for name, type_ in columns.items())
            cursor.execute(f"CREATE TEMP TABLE of_{kind} ({listed}, {keys[kind]}) ON COMMIT DROP")
            rows = list(rows_of(source, kind))
            shared = [name for name in columns if name in rows[0]]
            names = ", ".join(f'"{name}"' for name in shared)
            typed = ", ".join(f'"{name}" {columns[name].removesuffix("!")}' for name in shared)
            cursor.execute(
                f"INSERT INTO of_{kind} ({names}) SELECT {names} FROM jsonb_to_recordset(%s::jsonb) AS line ({typed})",
                [json.dumps(rows).replace("\\u0000", " ")],
            )
            assert cursor.rowcount == len(rows)
