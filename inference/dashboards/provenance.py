"""What a pass was made of: the facts that decide its numbers, and what pages say under them. JSON-ready."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from inference.dashboards.geometry import logit_path
from inference.dashboards.results import ContextTable, SkippedDocument
from inference.dictionaries.dictionary import Dictionary
from inference.language_models import LanguageModel

# Raise it when partial results change their meaning: older ones are then not resumed.
LAYOUT = 2


def facts_of(
    model: LanguageModel,
    dictionaries: Mapping[str, Dictionary],
    contexts: ContextTable,
    *,
    precision: str,
    batch_tokens: int,
    n_shards: int,
) -> dict[str, Any]:
    """Return everything that decides a pass's numbers, JSON-ready."""
    return {
        "layout": LAYOUT,
        "model": model.name,
        "model_revision": model.revision,
        "dictionaries": {source: _dictionary_facts(dictionary) for source, dictionary in dictionaries.items()},
        "corpus": contexts.digest,
        "n_tokens": contexts.n_tokens,
        "n_contexts": len(contexts),
        "bos": contexts.has_bos,
        "model_dtype": str(model.dtype),
        "precision": precision,
        "batch_tokens": batch_tokens,
        "n_shards": n_shards,
        "device": model.device.type,
        "torch": torch.__version__,
    }


def _dictionary_facts(dictionary: Dictionary) -> dict[str, Any]:
    config = dictionary.config
    return {
        "sha256": config.sha256,
        "architecture": config.architecture,
        "k": config.k,
        "hook_in": config.hook_in,
        "hook_out": config.hook_out,
        "normalize": config.normalize,
        "dtype": str(dictionary.dtype),
    }


def provenance_of(
    facts: Mapping[str, Any],
    model: LanguageModel,
    dictionaries: Mapping[str, Dictionary],
    contexts: ContextTable,
    skipped: Sequence[SkippedDocument],
    fingerprint: str,
) -> dict[str, Any]:
    """Return what a page says under its panels: the facts, and what they do not decide."""
    return {
        **facts,
        "fingerprint": fingerprint,
        "context_size": int(np.diff(contexts.indptr_c).max()),
        "excluded": "BOS and padding" if contexts.has_bos else "padding",
        "skipped_documents": len(skipped),
        "duplicate_contexts": int((contexts.duplicate_of_c != np.arange(len(contexts))).sum()),
        "logit_paths": {source: logit_path(model, dictionary) for source, dictionary in dictionaries.items()},
    }
