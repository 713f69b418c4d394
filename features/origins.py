"""What a dictionary's own files say of where it comes from, and where that disagrees with the model it was added to."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from features.models import LanguageModel
from inference.dictionaries import DictionaryConfig

# Names under which one model goes: TransformerLens' own, older ones, and what publications call them.
_ALIASES = {
    "gpt2small": "gpt2",
    "llama318b": "metallama318b",
    "llama318binstruct": "metallama318binstruct",
}
# What the names of models have that were tuned on conversations.
_CHAT = re.compile(r"(?:^|[-_.])(?:it|chat|instruct)(?:$|[-_.])", re.IGNORECASE)
_NARROW = frozenset({"float16", "bfloat16"})
_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A disagreement between a dictionary and its model: `what`, both values, and what it means for the figures."""

    what: str
    dictionary: str
    model: str
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a dictionary's own files say; empty, or None, where they are silent.

    `dtype` is that of the stored weights. `has_chat` says that it was trained on a model tuned on conversations,
    `can_chat` that the model at hand has a chat template.
    `group_sizes` are those of a Matryoshka dictionary's nested groups. `evidence` says why it is taken for what it is.
    """

    format: str
    model_name: str
    context_size: int | None
    prepend_bos: bool | None
    dtype: str
    normalize: str
    has_chat: bool
    can_chat: bool
    group_sizes: tuple[int, ...]
    evidence: tuple[str, ...]
    notices: tuple[Notice, ...]

    def group_range(self, group: int) -> tuple[int, int]:
        """Return the first index of a nested group, and the first behind it."""
        start = sum(self.group_sizes[:group])
        return start, start + self.group_sizes[group]


def group_of(stored: Mapping[str, Any], index: int) -> int | None:
    """Return the nested group that first holds a feature: 0 is the most general; None without groups."""
    ends = accumulate(stored.get("group_sizes") or ())
    return next((group for group, end in enumerate(ends) if index < end), None)


def stored_config(config: DictionaryConfig) -> dict[str, Any]:
    """Return what the database keeps of a config beside its columns, JSON-ready."""
    return {
        "normalize": config.normalize,
        "subtract_output_bias": config.subtract_output_bias,
        "scale_by_decoder_norm": config.scale_by_decoder_norm,
        "prepend_bos": config.prepend_bos,
        "context_size": config.context_size,
        "group_sizes": list(config.group_sizes),
        "evidence": list(config.evidence),
        "dtype": config.dtype,
        "is_summand": config.is_summand,
        "model_name": config.model_name,
        "metadata": dict(config.metadata),
    }


def origin_of(stored: Mapping[str, Any], format: str, model: LanguageModel | None) -> Origin:
    """Return the origin that a stored config states; without a model there is nothing to disagree with."""
    return Origin(
        format=format,
        model_name=stored.get("model_name", ""),
        context_size=stored.get("context_size"),
        prepend_bos=stored.get("prepend_bos"),
        dtype=_dtype(stored.get("dtype", "")),
        normalize=stored.get("normalize", "none"),
        has_chat=is_chat(stored.get("model_name", "")),
        can_chat=model is not None and bool(model.config.get("has_chat")),
        group_sizes=tuple(stored.get("group_sizes") or ()),
        evidence=tuple(stored.get("evidence") or ()),
        notices=tuple(_notices(stored, model)) if model is not None else (),
    )


def is_chat(model_name: str) -> bool:
    """Tell whether a model's name says that it was tuned on conversations."""
    return bool(_CHAT.search(model_name))


def same_model(name: str, model: LanguageModel) -> bool:
    """Tell whether a name that a dictionary gives its model can be this model's."""
    names = (model.slug, model.name, model.path, model.config.get("hub_id", ""))
    return _key(name) in {_key(own) for own in names if own}


def _notices(stored: Mapping[str, Any], model: LanguageModel) -> Sequence[Notice]:
    found = []
    name, context_size, bos = stored.get("model_name", ""), stored.get("context_size"), model.config.get("bos")
    if name and not same_model(name, model):
        found.append(
            Notice(
                what="model",
                dictionary=name,
                model=model.name or model.slug,
                meaning="It was trained on a model of another name. The widths fit; whether the weights are the same"
                " only you can tell. On other weights its features mean little: compare the explained variance.",
            )
        )
    if context_size and context_size > model.context_size:
        found.append(
            Notice(
                what="context size",
                dictionary=f"{context_size:,} tokens",
                model=f"{model.context_size:,} tokens",
                meaning="It was trained on longer contexts than this model reads, so positions beyond are never seen.",
            )
        )
    if stored.get("prepend_bos") and "bos" in model.config and not bos:
        found.append(
            Notice(
                what="BOS",
                dictionary="trained behind a BOS token",
                model="its tokenizer has none",
                meaning="Contexts begin without the token that the dictionary always saw first; the first tokens of"
                " each context may activate otherwise than in training.",
            )
        )
    if stored.get("prepend_bos") is False and bos:
        found.append(
            Notice(
                what="BOS",
                dictionary="trained without BOS",
                model=f"begins texts with {bos}",
                meaning="Builds and evaluations of this dictionary alone leave BOS out, as in training; the prompt page"
                " puts it first and counts nothing there.",
            )
        )
    dtype, own = _dtype(stored.get("metadata", {}).get("dtype") or stored.get("dtype", "")), model.config.get("dtype")
    if dtype in _NARROW and own and dtype != own:
        found.append(
            Notice(
                what="dtype",
                dictionary=dtype,
                model=own,
                meaning="It was made for activations of this precision. Facet computes the model in FACET_DTYPE,"
                " float32 if not set: values near a threshold may fall on its other side than in training.",
            )
        )
    if is_chat(name) and model.config.get("has_chat") is False:
        found.append(
            Notice(
                what="chat template",
                dictionary=f"trained on {name}, which reads conversations",
                model="its tokenizer has no chat template",
                meaning="Prompts are plain text here, which the dictionary's model saw rarely.",
            )
        )
    return found


def _key(name: str) -> str:
    key = re.sub(r"[^a-z0-9]", "", name.rstrip("/").rpartition("/")[2].lower())
    return _ALIASES.get(key, key)


def _dtype(name: str) -> str:
    short = str(name).removeprefix("torch.")
    return _DTYPES.get(short, short)
