"""What language model lies at a path or a hub id, from its config.json alone, and whether Facet can run it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from features.looks.values import DownloadFacts, Problem
from features.models import LanguageModel
from features.services.checks import path_of
from features.words import slugify
from inference.dictionaries.hub import cached, is_hub_id, plan
from inference.digests import weights_of
from inference.errors import InvalidInput, NotFound, using_paths
from inference.hook_points import FAMILIES, Family, family_of

# What a model needs of a repository, which often holds the same weights in other formats too.
FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model")
# What families call the same number.
_NAMES = {
    "n_layers": ("num_hidden_layers", "n_layer", "num_layers"),
    "d_model": ("hidden_size", "n_embd"),
    "n_heads": ("num_attention_heads", "n_head", "num_heads"),
    "d_vocab": ("vocab_size",),
    "context_size": ("max_position_embeddings", "n_positions", "n_ctx"),
}


class NoModel(NotFound):
    """A path without a model in the layout of transformers."""

    code = "unknown-model"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLook:
    """What a look found. Numbers are None where config.json does not say them.

    `problems` keep it from being added; with a `download` nothing is on this machine yet. `known` is its address if
    a model was added from the same place.
    """

    path: str
    slug: str
    model_type: str = ""
    family: str = ""
    causal: bool = True
    n_layers: int | None = None
    d_model: int | None = None
    n_heads: int | None = None
    d_vocab: int | None = None
    context_size: int | None = None
    dtype: str = ""
    has_chat: bool = False
    n_bytes: int = 0
    weights: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    known: str = ""
    download: DownloadFacts | None = None


@using_paths()
def look_at_model(path: str, *, revision: str = "") -> ModelLook:
    """Say what model lies in a folder, or under a hub id.

    Raises InvalidInput for an empty path, NoModel for a path without one, and NoHub, DiskTooSmall.
    """
    path = path_of(path)
    slug = slugify(Path(path.partition("@")[0]).name)
    folder = Path(path)
    if is_hub_id(path):
        wanted = f"{path}@{revision}" if revision and "@" not in path else path
        here = cached(wanted, of=FILES)
        if here is None:
            download = plan(wanted, several=True, of=FILES)
            return ModelLook(path=path, slug=slug, download=DownloadFacts.of(download))
        folder = here
    if not (folder / "config.json").is_file():
        found = sorted(entry.name for entry in folder.iterdir())[:10] if folder.is_dir() else []
        raise NoModel(
            f"There is no model at {path}: " + (f"it has {', '.join(found)}." if found else "there is no such folder."),
            "Name a folder that transformers' save_pretrained wrote: config.json, a tokenizer, and weights.",
            path=path,
        )
    return _described(path, slug, folder)


def _described(path: str, slug: str, folder: Path) -> ModelLook:
    config = _json(folder / "config.json")
    inner = config.get("text_config")
    text = config | inner if isinstance(inner, dict) else config
    model_type = str(config.get("model_type") or "")
    family = family_of(model_type, SimpleNamespace(**text))
    weights = weights_of(folder)
    tokenizer = [name for name in _TOKENIZERS if (folder / name).is_file()]
    row = LanguageModel.objects.filter(path__in=[path, str(folder.resolve())]).first()
    chat = (folder / "chat_template.jinja").is_file() or bool(
        _json(folder / "tokenizer_config.json").get("chat_template")
    )
    return ModelLook(
        path=path,
        slug=slug,
        model_type=model_type,
        family=family.name if family else "",
        causal=family.causal if family else True,
        **{name: _number(text, names) for name, names in _NAMES.items()},
        dtype=str(text.get("dtype") or text.get("torch_dtype") or ""),
        has_chat=chat,
        n_bytes=sum(file.stat().st_size for file in weights),
        weights=tuple(file.name for file in weights),
        sites=tuple(family.sites) if family else (),
        gaps=family.gaps if family else (),
        evidence=_evidence(model_type, family, weights, tokenizer),
        problems=tuple(_problems(folder, model_type, family, weights, tokenizer)),
        known=f"/{row.slug}" if row else "",
    )


def _evidence(model_type: str, family: Family | None, weights: list[Path], tokenizer: list[str]) -> tuple[str, ...]:
    said = [f"config.json says model_type {model_type or 'nothing'}."]
    if family:
        said.append(f"Its hook points are those of the family {family.name} ({family.known_as}).")
    if weights:
        said.append(f"Weights in {len(weights)} file{'s' if len(weights) > 1 else ''}, the first is {weights[0].name}.")
    if tokenizer:
        said.append(f"Its tokenizer is {tokenizer[0]}.")
    return tuple(said)


def _problems(
    folder: Path, model_type: str, family: Family | None, weights: list[Path], tokenizer: list[str]
) -> list[Problem]:
    problems = []
    if family is None:
        problems.append(
            Problem(
                code="unsupported-model",
                cause=f"Facet has no hook points for the architecture {model_type or 'that config.json leaves out'!r}.",
                remedy=f"Supported are: {', '.join(sorted(FAMILIES))}.",
            )
        )
    if not weights:
        problems.append(
            Problem(
                code="damaged-model",
                cause=f"{folder.name} has no weights.",
                remedy="Put its *.safetensors or pytorch_model*.bin there.",
            )
        )
    if not tokenizer:
        problems.append(
            Problem(
                code="model-without-tokenizer",
                cause=f"{folder.name} has no tokenizer.",
                remedy="Add its tokenizer.json (AutoTokenizer.from_pretrained(...).save_pretrained writes it).",
            )
        )
    return problems


def _number(config: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    return next((value for name in names if isinstance(value := config.get(name), int)), None)


def _json(path: Path) -> dict[str, Any]:
    """Return a JSON object, an empty one for a file that is not there; raise InvalidInput for what is no object."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} is not JSON.", "Fetch or write it again.", path=str(path)) from error
    if not isinstance(content, dict):
        raise InvalidInput(f"{path} is not a JSON object.", "Fetch or write it again.", path=str(path))
    return content
