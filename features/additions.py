"""Reading language models for services.models; needs torch, so only commands and workers import it."""

from __future__ import annotations

from pathlib import Path

from features.services.models import ModelFacts
from inference.language_models import LanguageModel, load_language_model


def read_model(path_or_id: str | Path, *, revision: str | None = None) -> ModelFacts:
    """Load a model and return its facts; raises what `load_language_model` raises."""
    folder = Path(path_or_id)
    path = str(folder.resolve()) if folder.is_dir() else str(path_or_id)
    return facts_of(load_language_model(path, revision=revision), path=path)


def facts_of(model: LanguageModel, *, path: str) -> ModelFacts:
    """Return the facts of a loaded model."""
    return ModelFacts(
        path=path,
        revision=model.revision,
        sha256=model.sha256,
        family=model.family.name,
        n_layers=model.n_layers,
        n_heads=model.n_heads,
        d_model=model.d_model,
        d_head=model.d_head,
        d_mlp=model.d_mlp,
        d_vocab=model.d_vocab,
        context_size=model.context_size,
        vocabulary=model.vocabulary(),
    )
