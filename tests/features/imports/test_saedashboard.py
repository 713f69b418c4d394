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

import pytest

from explorer.local.layout import CHECKOUT
from features import selectors, services
from features.models import Dictionary, Feature, LanguageModel, Run
from features.services.models import ModelFacts
from inference.dashboards.results import BANDS, TOP
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
    lines = [{"text": source[at : at + 600] + TEXT} for at in range(0, 60_000, 600)]
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
    dictionary = imported(import_from, written)
    n = 0
    for index, said in features.items():
        groups = selectors.example_groups(dictionary.pk, index, 100)
        shown = {}
        for group in groups:
            for example in group.examples:
                text = tuple(example.text[a:b] for a, b in zip(example.starts, example.ends, strict=True))
                shown[group.code == TOP, "".join(text), example.peak_position] = example
        for activation in said["activations"]:
            values = activation["values"]
            if not any(values):
                continue
            is_top = activation["bin_contains"] == -1
            place = values.index(max(values)) if is_top else activation["qualifying_token_index"]
            if not values[place]:
                place = values.index(max(values))
            at_place = [example for (top, _, at), example in shown.items() if top == is_top and at == place]
            wanted = [(position, value) for position, value in enumerate(values) if value]
            assert any(
                [p for p, _ in wanted] == list(example.positions)
                and [v for _, v in wanted] == pytest.approx(example.values, rel=1e-3)
                for example in at_place
            ) or _is_folded(groups, values), (index, activation)
            n += 1
    assert n > 1000


def _is_folded(groups: Any, values: list[float]) -> bool:
    """Tell whether an example with these values is among those that stand for several."""
    return any(group.total and any(example.n_similar for example in group.examples) for group in groups)


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
    text = " ".join(
        example.text for group in selectors.example_groups(dictionary.pk, 0, 50) for example in group.examples
    )
    assert "größe" in text or "café" in text or "übung" in text
    assert LanguageModel.objects.get(slug="known").path
