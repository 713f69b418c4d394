"""What Facet exports and imports again is what it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from features import selectors
from features.models import Dictionary, LanguageModel, Run
from features.results import ExampleGroup, FeatureCard
from tests.features.conftest import N_FEATURES, World

# What two copies of a dictionary may differ in: when and where they were stored, and the ids of their tokens.
OWN = {"id", "created_at", "document_url", "source", "context"}
OF_VOCABULARY = {"token_id", "token_ids"}


def comparable(value: Any, without: frozenset[str] | set[str] = OWN | OF_VOCABULARY) -> Any:
    """Return a result without what belongs to one copy."""
    if isinstance(value, dict):
        return {key: comparable(entry, without) for key, entry in value.items() if key not in without}
    if isinstance(value, list | tuple):
        return [comparable(entry, without) for entry in value]
    return value


def groups(model: str, index: int) -> tuple[ExampleGroup, ...]:
    return selectors.example_groups(selectors.source_card(model, "1-res-topk").id, index, 50)


def card(model: str, index: int) -> FeatureCard:
    return selectors.feature_card(model, "1-res-topk", index)


@pytest.fixture
def copy(exported: Path, import_from: Callable[..., Run]) -> Run:
    """Import the export as a model that is known from files alone."""
    run = import_from(exported, model="copy")
    assert run.state == "done", run.error
    return run


@pytest.mark.parametrize("index", range(0, N_FEATURES, 7))
def test_every_feature_is_shown_as_before(world: World, copy: Run, index: int) -> None:
    assert comparable(asdict(card("copy", index))) == comparable(asdict(card("tiny", index)))


def test_every_example_is_shown_as_before(world: World, copy: Run) -> None:
    for index in range(N_FEATURES):
        new, old = ([asdict(group) for group in groups(model, index)] for model in ("copy", "tiny"))
        assert comparable(new) == comparable(old), index


def test_the_figures_of_the_dictionary_are_as_before(world: World, copy: Run) -> None:
    old = Dictionary.objects.get(model__slug="tiny", source="1-res-topk")
    new = Dictionary.objects.get(model__slug="copy", source="1-res-topk")
    assert {key: new.stats[key] for key in ("n_tokens", "dead", "dense", "l0_mean", "densities")} == {
        key: old.stats[key] for key in ("n_tokens", "dead", "dense", "l0_mean", "densities")
    }
    assert (new.hook_point, new.architecture, new.n_features, new.d_in) == (
        old.hook_point, old.architecture, old.n_features, old.d_in)  # fmt: skip


def test_a_model_that_is_here_gets_its_own_token_ids(
    world: World, exported: Path, import_from: Callable[..., Run]
) -> None:
    before = [asdict(group) for index in range(N_FEATURES) for group in groups("tiny", index)]
    run = import_from(exported)
    assert run.state == "done", run.error
    after = [asdict(group) for index in range(N_FEATURES) for group in groups("tiny", index)]
    assert comparable(after, OWN) == comparable(before, OWN)
    assert LanguageModel.objects.count() == 1
