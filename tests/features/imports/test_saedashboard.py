"""Batches that SAEDashboard itself wrote, imported and compared with what the files say."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from explorer.local.layout import CHECKOUT
from features import packed_examples, selectors, services
from features.models import Context, Dictionary, Example, Feature, LanguageModel, Run
from features.services.models import ModelFacts
from inference.dashboards.results import BANDS, RANDOM_SILENT, TOP
from tests.interop import environments
from tests.tiny import TEXT, tiny_dictionary, tiny_model

pytestmark = pytest.mark.packages

N_FEATURES = 96
SOURCE = "1-res-tiny"


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Let the runner write batches; return the folder of everything."""
    if reason := environments.missing("saedashboard", "sae-dashboard"):
        pytest.skip(reason)
    root = tmp_path_factory.mktemp("saedashboard")
    model = tiny_model(root)
    sae = tiny_dictionary(root, "jumprelu", "blocks.1.hook_resid_post", d_sae=N_FEATURES, source="sae")
    (root / "text").mkdir()
    source = inspect.getsource(textwrap) * 4
    lines = [{"text": (TEXT if at % 1200 else "") + source[at : at + 600]} for at in range(0, 60_000, 600)]
    (root / "text" / "data.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    command = [environments.python_of("saedashboard"), "-m", "tests.interop.saedashboard"]
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(
        [*command, model, sae, root / "text", root / "out"],
        cwd=root, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return root


@pytest.fixture
def features(written: Path) -> dict[int, dict[str, Any]]:
    """Return what the files say, by feature."""
    batches = [json.loads(path.read_text()) for path in (written / "out").rglob("batch-*.json")]
    return {feature["feature_index"]: feature for batch in batches for feature in batch["features"]}


def imported(import_from: Callable[..., Run], written: Path, model: str = "") -> Dictionary:
    run = import_from(written / "out", model=model)
    assert run.state == "done", run.error
    return Dictionary.objects.get(source=SOURCE)


def test_everything_is_there(
    db: None, written: Path, features: dict[int, Any], import_from: Callable[..., Run]
) -> None:
    dictionary = imported(import_from, written)
    assert (dictionary.model.slug, dictionary.n_features, dictionary.layer) == ("tiny", N_FEATURES, 1)
    rows = Feature.objects.of(dictionary.pk)
    assert set(rows.values_list("index", flat=True)) == set(features)
    n_tokens = dictionary.stats["n_tokens"]
    assert n_tokens == 48 * 32
    for row in rows:
        said = features[row.index]
        assert row.firing_count / n_tokens == pytest.approx(said["frac_nonzero"], abs=1 / n_tokens)
        assert sum(row.histogram) == pytest.approx(row.firing_count, abs=25)
        assert row.logit_histogram == [round(height) for height in said["logits_hist_data_bar_heights"]]
        tops = [activation["bin_max"] for activation in said["activations"] if activation["bin_min"] == -1]
        assert row.maximum == pytest.approx(max(tops, default=0), abs=2e-3)


def test_examples_are_those_of_the_files(
    db: None, written: Path, features: dict[int, Any], import_from: Callable[..., Run]
) -> None:
    """Every activation is stored with its values, at the token for which it was chosen; equal ones once."""
    dictionary = imported(import_from, written)
    for index, said in features.items():
        rows = Example.objects.filter(dictionary_id=dictionary.pk, index=index)
        stored = {
            (found.group, found.peak_position, tuple(found.positions), tuple(found.values))
            for row in rows
            for found in packed_examples.unpack(row.packed)
        }
        maximum = Feature.objects.of(dictionary.pk).get(index=index).maximum
        wanted = set()
        for activation in said["activations"]:
            values = activation["values"]
            chosen, strongest = activation["qualifying_token_index"], values.index(max(values))
            is_top = activation["bin_contains"] == -1
            # The lowest interval also has tokens that do not fire, and the first token, which has no place in the list.
            place = strongest if is_top or chosen < 0 or not values[chosen] else chosen
            bands = [code for code, (low, high) in BANDS.items() if low * maximum < values[place] <= high * maximum]
            group = TOP if is_top else bands[0] if bands else RANDOM_SILENT
            fires = [position for position, value in enumerate(values) if value]
            fired = np.float16([values[position] for position in fires]).tolist()
            wanted.add((group, place, tuple(fires), tuple(fired)))
        assert stored == wanted, index


def test_intervals_become_bands(
    db: None, written: Path, features: dict[int, Any], import_from: Callable[..., Run]
) -> None:
    dictionary = imported(import_from, written)
    for index in features:
        maximum = Feature.objects.of(dictionary.pk).get(index=index).maximum
        for group in selectors.example_groups(dictionary.pk, index, 100):
            if group.code in BANDS:
                low, high = BANDS[group.code]
                assert all(low * maximum < example.peak_value <= high * maximum * 1.001 for example in group.examples)


def test_strings_become_the_ids_of_a_model_that_is_here(
    db: None, written: Path, parts: Any, import_from: Callable[..., Run]
) -> None:
    facts: ModelFacts = parts.facts
    services.models.add_model(facts=facts, slug="known")
    dictionary = imported(import_from, written, model="known")
    vocabulary = list(facts.vocabulary)
    checked = 0
    for index in range(0, N_FEATURES, 5):
        for group in selectors.example_groups(dictionary.pk, index, 20):
            for example in group.examples:
                for token, start, end in zip(example.token_ids, example.starts, example.ends, strict=True):
                    if vocabulary[token].isascii() and "\\x" not in vocabulary[token] and end > start:
                        assert example.text[start:end] == vocabulary[token]
                        checked += 1
    assert checked > 1000
    text = " ".join(Context.objects.filter(tokenization=dictionary.tokenization).values_list("text", flat=True))
    assert "größe" in text
    assert "naïve" in text
    assert LanguageModel.objects.get(slug="known").path
