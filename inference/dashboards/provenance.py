"""What a pass was made of: the facts that decide its numbers, and what pages say under them. JSON-ready."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from inference.dashboards.contexts import ContextIndex
from inference.dashboards.geometry import logit_path
from inference.dictionaries.dictionary import Dictionary
from inference.language_models import LanguageModel
from kernels.affine import onednn_is_faster

# Raise it when partial results change their meaning or their digits: older ones are then not resumed.
LAYOUT = 6


def facts_of(
    model: LanguageModel,
    dictionaries: Mapping[str, Dictionary],
    index: ContextIndex,
    *,
    precision: str,
    batch_tokens: int,
) -> dict[str, Any]:
    """Return everything that decides a pass's numbers, JSON-ready."""
    return {
        "layout": LAYOUT,
        "model": model.name,
        "model_revision": model.revision,
        "companions": {name: companion.revision for name, companion in model.companions.items()},
        "dictionaries": {source: _dictionary_facts(dictionary) for source, dictionary in dictionaries.items()},
        "corpus": index.digest,
        "n_tokens": index.n_tokens,
        "n_contexts": index.n_contexts,
        "bos": index.has_bos,
        "context_size": index.context_tokens,
        "model_dtype": str(model.dtype),
        "precision": precision,
        "batch_tokens": batch_tokens,
        "n_shards": index.n_shards,
        "device": _device(model),
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
    index: ContextIndex,
    fingerprint: str,
) -> dict[str, Any]:
    """Return what a page says under its panels: the facts, and what they do not decide."""
    return {
        **facts,
        "fingerprint": fingerprint,
        "excluded": "BOS and padding" if index.has_bos else "padding",
        "skipped_documents": len(index.skipped),
        "duplicate_contexts": index.n_duplicates,
        "logit_paths": {
            source: logit_path(model, dictionary)
            for source, dictionary in dictionaries.items()
            if dictionary.config.has_directions and model.family.causal
        },
    }


def _device(model: LanguageModel) -> str:
    """Return what computes: digits differ between kinds of GPUs, instruction sets of CPUs, and libraries."""
    if model.device.type == "cpu":
        return f"cpu, {torch.backends.cpu.get_cpu_capability()}, {'oneDNN' if onednn_is_faster() else 'MKL'}"
    return f"{model.device.type}, {torch.cuda.get_device_name(model.device)}"
