"""What is kept of keys that Facet itself does not write, and what is counted and left out."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from features import selectors
from features.exports.neuronpedia import write_neuronpedia
from features.models import Run
from tests.features.conftest import World

SOURCE = Path("tiny/1-res-topk")
FEATURES, ACTIVATIONS, EXPLANATIONS = (
    SOURCE / kind / "batch-0.jsonl.gz" for kind in ("features", "activations", "explanations")
)
Import = Callable[..., Run]


def change(path: Path, changed: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Write the lines of a file anew, without what only Facet writes."""
    rows = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    lines = [json.dumps({key: value for key, value in changed(row).items() if key != "facet"}) for row in rows]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))


@pytest.fixture
def plain(exported: Path) -> Path:
    """The export as others write it: without Facet's own file."""
    (exported / SOURCE / "facet.json").unlink()
    return exported


def test_correlated_features_are_shown_as_such(world: World, plain: Path, import_from: Import, tmp_path: Path) -> None:
    def correlated(row: dict[str, Any]) -> dict[str, Any]:
        others = [3, 9, 70] if row["index"] == "7" else []
        return row | {
            "correlated_features_indices": others,
            "correlated_features_pearson": [0.75, 0.5, -0.25][: len(others)],
        }

    change(plain / FEATURES, correlated)
    run = import_from(plain, model="copy")
    assert run.state == "done", run.error
    card = selectors.feature_card("copy", SOURCE.name, 7)
    assert card.co_firing_measure == "correlation"
    assert [(row.index, row.value) for row in card.co_firing] == [(3, 0.75), (9, 0.5), (70, -0.25)]
    # Shares follow from Jaccard indices alone.
    assert {row.share_here for row in card.co_firing} == {None}
    assert selectors.feature_card("tiny", SOURCE.name, 7).co_firing_measure == "jaccard"
    # It travels on.
    again = write_neuronpedia("copy", SOURCE.name, tmp_path / "again")
    lines = gzip.decompress((again / "features" / "batch-0.jsonl.gz").read_bytes()).splitlines()
    assert json.loads(lines[7])["correlated_features_indices"] == [3, 9, 70]
    assert json.loads(lines[7])["correlated_features_pearson"] == [0.75, 0.5, -0.25]
    assert import_from(again, model="third").state == "done"
    assert selectors.feature_card("third", SOURCE.name, 7).co_firing_measure == "correlation"


def test_uploaded_vectors_keep_their_names(world: World, plain: Path, import_from: Import) -> None:
    def uploaded(row: dict[str, Any]) -> dict[str, Any]:
        label = "sycophancy" if row["index"] == "7" else None
        return row | {"vector": [0.5] * 48, "hasVector": True, "vectorLabel": label}

    change(plain / FEATURES, uploaded)
    change(plain / EXPLANATIONS, lambda row: row | {"index": "1"})
    run = import_from(plain, model="copy")
    assert run.state == "done", run.error
    card = selectors.feature_card("copy", SOURCE.name, 7)
    assert card.label == "sycophancy"
    assert card.explanations[0].method == "neuronpedia/vector label"
    assert "features: vector (96)" in "\n".join(run.lines.values_list("text", flat=True))


def test_what_has_no_place_is_counted(world: World, plain: Path, import_from: Import) -> None:
    of_features = {"correlated_neurons_indices": [1], "neuron_alignment_indices": [2], "decoder_weights_dist": [0.5]}
    of_activations = {"dfaValues": [0.5], "dfaTargetIndex": 3, "lossValues": [float("nan")], "logitContributions": None}
    change(plain / FEATURES, lambda row: row | of_features)
    change(plain / ACTIVATIONS, lambda row: row | of_activations)
    change(plain / EXPLANATIONS, lambda row: row | {"embedding": [0.5] * 4})
    run = import_from(plain, model="copy")
    assert run.state == "done", run.error
    (said,) = [line for line in run.lines.values_list("text", flat=True) if line.startswith("Not kept")]
    for name in ("features: correlated_neurons_indices", "features: neuron_alignment_indices",
                 "features: decoder_weights_dist", "activations: dfaValues", "activations: lossValues",
                 "explanations: embedding"):  # fmt: skip
        assert f"{name} (" in said
    assert "logitContributions" not in said
    assert "umap" not in said


def test_a_second_text_of_a_method_has_a_number_and_the_same_text_counts_once(
    world: World, plain: Path, import_from: Import
) -> None:
    said = {"index": "7", "typeName": "oai_token-act-pair", "explanationModelName": "gpt-4o-mini"}
    texts = ["closing brackets", "ends of calls", "closing brackets"]
    lines = [{**said, "description": text, "scoreV1": 0.5} for text in texts]
    (plain / EXPLANATIONS).write_bytes(gzip.compress("\n".join(map(json.dumps, lines)).encode()))
    run = import_from(plain, model="copy")
    assert run.state == "done", run.error
    found = {entry.method: entry for entry in selectors.feature_card("copy", SOURCE.name, 7).explanations}
    method = "neuronpedia/oai_token-act-pair/gpt-4o-mini"
    assert {name: entry.text for name, entry in found.items()} == {method: texts[0], f"{method}#2": texts[1]}
    assert found[method].evidence["typeName"] == "oai_token-act-pair"
    assert found[method].evidence["scores"] == {"scoreV1": 0.5}
    assert "explanations (1)" in "\n".join(run.lines.values_list("text", flat=True))


def test_what_else_lies_in_their_bucket_is_passed_over(world: World, plain: Path, import_from: Import) -> None:
    """Kinds of explanations lie beside the models, hosts beside a source's files, lenses beside the sources."""
    for name in ("config/explanation_type.jsonl", "tiny/jlens/lens.jsonl"):
        (plain / name).parent.mkdir(parents=True)
        (plain / name).write_text('{"name": "oai_token-act-pair", "features": [1]}\n')
    for name in ("inference_hosts.jsonl", "inference_hosts_on_source.jsonl"):
        (plain / SOURCE / name).write_text('{"id": "h", "hostUrl": "http://127.0.0.1"}\n')
    run = import_from(plain, model="copy")
    assert run.state == "done", run.error
    assert [one["link"] for one in run.result["imported"]] == [f"/copy/{SOURCE.name}"]
    assert selectors.feature_card("copy", SOURCE.name, 3).maximum > 0


@pytest.mark.parametrize(
    ("text", "shown"), [("half \ud83d a pair", "half ? a pair"), ("a whole \U0001f600", "a whole \U0001f600")]
)
def test_half_a_character_is_replaced(world: World, plain: Path, import_from: Import, text: str, shown: str) -> None:
    change(plain / EXPLANATIONS, lambda row: row | {"index": "7", "description": text, "notes": float("nan")})
    run = import_from(plain, model="copy")
    assert run.state == "done", run.error
    assert shown in {entry.text for entry in selectors.feature_card("copy", SOURCE.name, 7).explanations}
