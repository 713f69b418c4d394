"""Reading language models that are to be added; needs torch, so only commands and workers import it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoConfig

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
        config=_config(model, path),
        vocabulary=model.vocabulary(),
    )


def _config(model: LanguageModel, path: str) -> dict[str, Any]:
    """Return what the files say beyond the columns (features.models.LanguageModel)."""
    stated = AutoConfig.from_pretrained(path, revision=model.revision if model.revision != model.sha256 else None)
    stored = stated.get_text_config().dtype or stated.dtype
    return {
        "dtype": str(stored).removeprefix("torch.") if stored is not None else "",
        "bos": model.vocabulary()[model.bos_id] if model.bos_id is not None else "",
        "has_chat": bool(model.tokenizer.chat_template),
        "hub_id": "" if Path(path).is_dir() else path,
        "causal": model.family.causal,
    }
