"""A small real pass: a tiny model, three dictionaries, Python files and text of several scripts."""

from __future__ import annotations

import inspect
import json
import string
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from inference.dashboards import run_pass
from inference.dashboards.results import DocumentRef, PassResult
from inference.dictionaries import load_dictionary
from inference.dictionaries.dictionary import Dictionary
from inference.language_models import LanguageModel, load_language_model
from tests.tiny import TEXT, tiny_dictionary, tiny_model

CONTEXT_SIZE, BATCH_TOKENS, SHARD_TOKENS, N_TOKENS = 32, 128, 1024, 6000


@dataclass(frozen=True)
class Setting:
    """What a pass is run on."""

    model: LanguageModel
    dictionaries: Mapping[str, Dictionary]
    documents: list[DocumentRef]

    def run(self, workdir: Path | str, **changes: object) -> PassResult:
        options = {
            "n_tokens": N_TOKENS,
            "context_size": CONTEXT_SIZE,
            "shard_tokens": SHARD_TOKENS,
            "batch_tokens": BATCH_TOKENS,
        }
        return run_pass(self.model, self.dictionaries, self.documents, workdir=workdir, **options | changes)


def write_documents(folder: Path) -> list[DocumentRef]:
    """Write readable documents, one of them twice, and return their references."""
    sources = {module.__name__: inspect.getsource(module) for module in (json, string, textwrap, inspect)}
    texts = {
        **sources,
        "scripts": TEXT * 30,
        "again": sources["string"].replace("    ", "\t").upper(),
        "short": "x = 1",
    }
    documents = []
    for number, (name, text) in enumerate(texts.items()):
        path = folder / f"{name}.py"
        path.write_text(text, encoding="utf-8")
        split = "test" if number % 3 == 0 else "train"
        documents.append(DocumentRef(ordinal=100 + number, name=path.name, path=str(path), split=split))
    return documents


def make_setting(folder: Path, family: str = "gpt2") -> Setting:
    """Make a model, dictionaries of three architectures and documents in a folder; the same everywhere."""
    model = load_language_model(tiny_model(folder, family))
    sources = {
        "1-res-topk": tiny_dictionary(folder, "topk", "blocks.1.hook_resid_post", seed=1, source="1-res-topk"),
        "2-att-topk": tiny_dictionary(folder, "topk", "blocks.2.attn.hook_z", seed=2, source="2-att-topk", k=3),
        "1-tc-jump": tiny_dictionary(
            folder, "jumprelu_transcoder", "blocks.1.ln2.hook_normalized", d_sae=100, seed=3, source="1-tc-jump"
        ),
    }
    corpus = folder / "corpus"
    corpus.mkdir()
    dictionaries = {source: load_dictionary(path) for source, path in sources.items()}
    return Setting(model, dictionaries, write_documents(corpus))


@pytest.fixture(scope="session")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    torch.set_num_threads(1)
    return make_setting(tmp_path_factory.mktemp("setting"))


@pytest.fixture(scope="session")
def result(setting: Setting, tmp_path_factory: pytest.TempPathFactory) -> PassResult:
    return setting.run(tmp_path_factory.mktemp("work"))


@pytest.fixture(scope="session")
def dense(setting: Setting, result: PassResult) -> Callable[[str], Dense]:
    """Return what encodes the whole corpus of the pass without any streaming."""
    return lambda source: Dense.of(setting, result, source)


@dataclass(frozen=True)
class Dense:
    """All activations of one dictionary, brute force: rows are the text tokens of all contexts."""

    a_tf: np.ndarray
    h_tf: np.ndarray
    y_to: np.ndarray
    y_hat_to: np.ndarray
    token_t: np.ndarray
    context_t: np.ndarray

    @classmethod
    def of(cls, setting: Setting, result: PassResult, source: str) -> Dense:
        from inference.activations import capture

        contexts, dictionary = result.contexts, setting.dictionaries[source]
        columns = []
        # The same batches as the pass: other shapes of a matrix product may round differently.
        size = BATCH_TOKENS // CONTEXT_SIZE
        for start in range(0, len(contexts), size):
            batch = range(start, min(start + size, len(contexts)))
            ids = [contexts.tokens(i)[0].astype(np.int64) for i in batch]
            padded = np.zeros((len(ids), max(map(len, ids))), dtype=np.int64)
            text = np.zeros(padded.shape, dtype=bool)
            for row, values in enumerate(ids):
                padded[row, : len(values)] = values
                text[row, 1 : len(values)] = True
            hooks = [dictionary.hook_in, dictionary.hook_out]
            captured = capture(setting.model, torch.from_numpy(padded), hooks)
            x_td, y_to = (captured[name][torch.from_numpy(text)] for name in hooks)
            activations = dictionary.encode(x_td)
            row, position = np.nonzero(text)
            columns.append(
                (
                    activations.dense().numpy(),
                    dictionary.pre_activations(x_td).numpy(),
                    y_to.numpy(),
                    dictionary.decode(activations, x_td).numpy(),
                    contexts.indptr_c[row + start] + position,
                    row + start,
                )
            )
        return cls(*(np.concatenate(column) for column in zip(*columns, strict=True)))

    @property
    def peak_cf(self) -> np.ndarray:
        """The highest activation of each feature in each context."""
        return np.stack([self.a_tf[self.context_t == c].max(0) for c in range(self.context_t.max() + 1)])


def all_arrays(result: PassResult) -> dict[str, np.ndarray]:
    """Return every array and number of a result under a name."""
    from dataclasses import fields, is_dataclass

    found: dict[str, np.ndarray] = {}

    def walk(name: str, value: object) -> None:
        if is_dataclass(value):
            for column in fields(value):
                walk(f"{name}.{column.name}", getattr(value, column.name))
        elif isinstance(value, Mapping):
            for key, inner in value.items():
                walk(f"{name}[{key}]", inner)
        elif isinstance(value, (int, float, np.ndarray)):
            found[name] = np.asarray(value)

    walk("contexts", result.contexts)
    walk("dashboards", result.dashboards)
    return found
