"""Tiny real models and dictionaries, loaded once for the tests of the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch

from inference.dictionaries import load_dictionary
from inference.dictionaries.dictionary import Dictionary
from inference.language_models import LanguageModel, load_language_model
from tests.tiny import tiny_dictionary, tiny_model


class Made(dict):
    """A dictionary that makes what it is first asked for."""

    def __init__(self, make: Callable) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, key):
        self[key] = self._make(key)
        return self[key]


@pytest.fixture(scope="session")
def model_folders(tmp_path_factory) -> Mapping[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return Made(lambda family: tiny_model(folder, family))


@pytest.fixture(scope="session")
def models(model_folders) -> Mapping[str, LanguageModel]:
    torch.set_num_threads(1)
    return Made(lambda family: load_language_model(model_folders[family], device="cpu"))


@pytest.fixture(params=("gpt2", "llama"))
def model(request, models) -> LanguageModel:
    """A model of each of the two most unlike families; tests of all families parametrize it anew."""
    return models[request.param]


@pytest.fixture
def gpt2(models) -> LanguageModel:
    return models["gpt2"]


@pytest.fixture(scope="session")
def dictionaries(tmp_path_factory) -> dict[str, Dictionary]:
    """One dictionary of each kind that the demonstration ships."""
    folder = tmp_path_factory.mktemp("dictionaries")
    kinds = {
        "topk": ("topk", "blocks.1.hook_resid_post"),
        "jumprelu": ("jumprelu", "blocks.2.hook_resid_post"),
        "relu": ("standard", "blocks.0.hook_resid_post"),
        "attention": ("topk", "blocks.2.attn.hook_z"),
        "transcoder": ("transcoder", "blocks.1.ln2.hook_normalized"),
    }
    return {
        name: load_dictionary(tiny_dictionary(folder, architecture, hook, source=name), device="cpu")
        for name, (architecture, hook) in kinds.items()
    }
