"""A small real world for the tests of the data: a random model, three dictionaries, and one pass over real files."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import pytest

from features import services
from features.models import Corpus, Dictionary, LanguageModel
from features.services.corpora import NewDocument
from features.services.explanations import MethodExplanation
from features.services.models import ModelFacts
from inference.dashboards.results import DocumentRef, PassResult
from tests.tiny import TEXT, tiny_dictionary, tiny_model

N_TOKENS = 12_000
CONTEXT_SIZE = 48
N_FEATURES = 96
METHOD = "test-method"
HOOKS = {"1-res-topk": "blocks.1.hook_resid_post", "2-res-jump": "blocks.2.hook_resid_post"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What is on disk, and what a pass made of it; shared by all tests."""

    model: Path
    dictionaries: dict[str, Path]
    facts: ModelFacts
    documents: list[NewDocument]
    result: PassResult


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The same, registered and attached."""

    parts: Parts
    model: LanguageModel
    corpus: Corpus
    dictionaries: dict[str, Dictionary]

    def attach(self, *, explained: bool = True, sources: tuple[str, ...] = tuple(HOOKS)) -> None:
        """Store the pass once more."""
        services.dashboards.attach(
            corpus=self.corpus.pk,
            model=self.model.pk,
            context_size=CONTEXT_SIZE,
            contexts=self.parts.result.contexts,
            dashboards={self.dictionaries[source].pk: self.parts.result.dashboards[source] for source in sources},
            explanations={self.dictionaries[source].pk: explain(self.parts, source) for source in sources}
            if explained
            else {},
        )
        for source in sources:
            self.dictionaries[source].refresh_from_db()

    def busiest(self, source: str = "1-res-topk", place: int = 0) -> int:
        """Return the feature that fires most, or the next."""
        return int((-self.parts.result.dashboards[source].firing_count_f).argsort(kind="stable")[place])


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    """Write the model, dictionaries and documents, and run the pass."""
    from features.loading import facts_of
    from inference.dashboards import run_pass
    from inference.dictionaries import load_dictionary
    from inference.language_models import load_language_model

    root = tmp_path_factory.mktemp("parts")
    folder = tiny_model(root)
    dictionaries = {
        source: tiny_dictionary(root, "topk" if "topk" in source else "jumprelu", hook, d_sae=N_FEATURES, source=source)
        for source, hook in HOOKS.items()
    }
    text = Path(argparse.__file__).read_text()
    files = {
        "argparse.py": text,
        "again/argparse.py": text[:4000],
        "scripts.py": TEXT * 20 + "\0 binary\n" + text[:900],
    }
    documents = []
    for name, content in files.items():
        path = root / "documents" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        documents.append(NewDocument(name=name, path=path, split="test" if name == "scripts.py" else "train"))
    model = load_language_model(folder)
    result = run_pass(
        model,
        {source: load_dictionary(path) for source, path in dictionaries.items()},
        [
            DocumentRef(ordinal=ordinal, name=document.name, path=str(document.path), split=document.split)
            for ordinal, document in enumerate(documents)
        ],
        workdir=tmp_path_factory.mktemp("shards"),
        n_tokens=N_TOKENS,
        context_size=CONTEXT_SIZE,
    )
    return Parts(
        model=folder,
        dictionaries=dictionaries,
        facts=facts_of(model, path=str(folder)),
        documents=documents,
        result=result,
    )


@pytest.fixture
def registered(parts: Parts, db: None) -> World:
    """Register the parts, without dashboards."""
    model = services.models.add_model(facts=parts.facts, slug="tiny", name="Tiny")
    corpus = services.corpora.add_corpus(name="Some files", documents=parts.documents)
    dictionaries = {
        source: services.dictionaries.add_dictionary(path=path, model="tiny", release="trial")
        for source, path in parts.dictionaries.items()
    }
    return World(parts=parts, model=model, corpus=corpus, dictionaries=dictionaries)


@pytest.fixture
def world(registered: World) -> World:
    """Register the parts and attach their dashboards."""
    registered.attach()
    return registered


@pytest.fixture
def user(db: None, django_user_model):
    """Return a person with an account."""
    return django_user_model.objects.create_user("ada")


@pytest.fixture
def other(db: None, django_user_model):
    """Return another."""
    return django_user_model.objects.create_user("grace")


def explain(parts: Parts, source: str) -> dict[str, list[MethodExplanation]]:
    """Explain every feature that fires by its first peak token."""
    dashboard = parts.result.dashboards[source]
    vocabulary = parts.facts.vocabulary
    firing = (index for index in range(dashboard.n_features) if dashboard.firing_count_f[index])
    return {
        METHOD: [
            MethodExplanation(index, f"the token {vocabulary[token]!r} of feature number {index}", {"token": token})
            for index in firing
            for token in [int(dashboard.peak_token_ids_fk[index, 0])]
        ]
    }
