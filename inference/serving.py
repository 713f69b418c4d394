"""What an engine worker answers: texts in, JSON-ready values out, with models and dictionaries kept loaded.

Imports torch through the core and never Django: `inference.tasks` looks names up in the database and calls this.
Positions count the BOS; values are in the units of their dictionary, rounded to five significant digits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np

from inference.attribution import source_attributions
from inference.chat import as_chat
from inference.dictionaries import load_dictionary
from inference.dictionaries.dictionary import Dictionary
from inference.errors import Conflict, InvalidInput
from inference.generation import generate
from inference.language_models import LanguageModel, load_language_model
from inference.memory import ByteLRU
from inference.prompts import feature_activations, prompt_features
from inference.readings import Readings
from inference.text import display
from inference.values import Attribution, Edit, PromptFeature, Tokens

DIGITS = 5
# What texts that were read lately may take of an engine's bytes; the rest is for models and dictionaries.
_OF_READINGS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """Where a model is; `revision` is of a hub id, `sha256` digests the weights of a folder ("" for a hub id).

    `companions` are the models that dictionaries compare it with.
    """

    slug: str
    path: str
    revision: str | None
    sha256: str = ""
    companions: tuple[ModelSpec, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scales:
    """What a build knows of every feature: its maximum and the share of tokens it fires on, float32 arrays [F]."""

    maxima: np.ndarray
    densities: np.ndarray

    @property
    def n_bytes(self) -> int:
        return self.maxima.nbytes + self.densities.nbytes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DictionarySpec:
    """Where a dictionary is; `scales` is None until its dashboards are built."""

    source: str
    path: str
    sha256: str
    scales: Scales | None


@dataclass(slots=True, kw_only=True)
class Engine:
    """Answers for one worker process; `worker` is the name under which it answers.

    Of `capacity_bytes` a sixteenth is for what it keeps of the texts it read lately.
    """

    worker: str
    capacity_bytes: int
    device: str | None = None
    dtype: str = "float32"
    held: ByteLRU = field(init=False)
    readings: Readings = field(init=False)

    def __post_init__(self) -> None:
        of_readings = self.capacity_bytes // _OF_READINGS
        self.held = ByteLRU(self.capacity_bytes - of_readings)
        self.readings = Readings(of_readings)

    def model(self, spec: ModelSpec) -> LanguageModel:
        """Return the model with its companions, loading those that are not held."""

        def load() -> LanguageModel:
            model = load_language_model(
                spec.path, name=spec.slug, revision=spec.revision, dtype=self.dtype, device=self.device
            )
            _check_digest(spec.slug, spec.path, registered=spec.sha256, found=model.sha256)
            return model

        model = self.held.get(("model", spec.path, spec.revision, spec.sha256), load)
        if not spec.companions:
            return model
        companions = {companion.slug: self.model(companion) for companion in spec.companions}
        return replace(model, name=spec.slug, companions=companions)

    def dictionary(self, model: LanguageModel, spec: DictionarySpec) -> Dictionary:
        """Return the dictionary, loading it and checking that it fits the model if it is not held."""

        def load() -> Dictionary:
            dictionary = load_dictionary(spec.path, device=model.device, dtype="float32", model=model)
            _check_digest(spec.source, spec.path, registered=spec.sha256, found=dictionary.config.sha256)
            model.check_fit(dictionary.config)
            return dictionary

        return self.held.get(("dictionary", spec.path, spec.sha256, str(model.device)), load)

    def prompt_features(
        self,
        model_spec: ModelSpec,
        dictionary_specs: Sequence[DictionarySpec],
        *,
        text: str,
        rank: str,
        density: float | None,
        positions: Sequence[int] | None,
        top: int,
        truncate: bool,
        chat: bool = False,
    ) -> dict[str, Any]:
        """Return the features that fire in the text, ranked, none denser than `density` among them.

        With `chat` the text is a turn in the words of the model's chat template, and `own` are the first and the last
        character of it behind those words. Raises PromptTooLong, ModelWithoutChat, InvalidInput for positions beyond
        the text, and what loading raises.
        """
        begin = time.perf_counter()
        model = self.model(model_spec)
        dictionaries = {spec.source: self.dictionary(model, spec) for spec in dictionary_specs}
        turn = as_chat(model, text) if chat else None
        tokens, truncated_from = self._tokenize(model, turn.text if turn else text, truncate=truncate)
        _check_positions(positions, tokens)
        scales = {spec.source: spec.scales for spec in dictionary_specs if spec.scales is not None}
        found = prompt_features(
            model,
            dictionaries,
            tokens,
            top_k=top,
            rank="mean" if rank == "mean" else "max",
            positions=positions,
            maxima={source: known.maxima for source, known in scales.items()} if rank == "share" else None,
            allowed=_allowed(scales, density),
            readings=self.readings,
        )
        ranked = _ranked_positions(tokens, positions)
        return {
            "tokens": _tokens(model, tokens),
            "features": [_feature(feature, ranked) for feature in found.features],
            "n_firing": found.n_firing,
            "n_hidden": found.n_hidden,
            "own": [turn.start, turn.end] if turn else None,
            "truncated_from": truncated_from,
            "provenance": self._provenance(model, dictionary_specs, begin),
        }

    def feature_activations(
        self,
        model_spec: ModelSpec,
        spec: DictionarySpec,
        *,
        indices: Sequence[int],
        text: str,
        truncate: bool,
    ) -> dict[str, Any]:
        """Return the activations of chosen features at every token; those at BOS are reported and not to be counted."""
        begin = time.perf_counter()
        model = self.model(model_spec)
        dictionary = self.dictionary(model, spec)
        tokens, truncated_from = self._tokenize(model, text, truncate=truncate)
        a_tn = feature_activations(model, dictionary, tokens, indices, readings=self.readings)
        maxima = [float(spec.scales.maxima[index]) for index in indices] if spec.scales else [None] * len(indices)
        return {
            "tokens": _tokens(model, tokens),
            "values": _all_rounded(a_tn.T.numpy()),
            "maxima": [maximum or None for maximum in maxima],
            "truncated_from": truncated_from,
            "provenance": self._provenance(model, [spec], begin),
        }

    def source_attributions(
        self,
        model_spec: ModelSpec,
        spec: DictionarySpec,
        *,
        index: int,
        text: str,
        positions: Sequence[int] | None,
        truncate: bool,
        chat: bool = False,
    ) -> dict[str, Any]:
        """Return what each token of a text adds, through attention, to a feature: at `positions`, or where it is most.

        With `chat` the text is a turn, as for `prompt_features`. Raises WithoutAttribution.
        """
        begin = time.perf_counter()
        model = self.model(model_spec)
        dictionary = self.dictionary(model, spec)
        turn = as_chat(model, text) if chat else None
        tokens, truncated_from = self._tokenize(model, turn.text if turn else text, truncate=truncate)
        found = source_attributions(model, dictionary, tokens, index, destinations=positions)
        return {
            "tokens": _tokens(model, tokens),
            "values": [_rounded(value) for value in found.activations],
            "maximum": float(spec.scales.maxima[index]) or None if spec.scales else None,
            "attributions": [_attribution(attribution) for attribution in found.attributions],
            "n_firing": found.n_firing,
            "n_heads": found.n_heads,
            "frozen_norm": found.frozen_norm,
            "own": [turn.start, turn.end] if turn else None,
            "truncated_from": truncated_from,
            "provenance": self._provenance(model, [spec], begin),
        }

    def generate(
        self,
        model_spec: ModelSpec,
        dictionary_specs: Mapping[str, DictionarySpec],
        *,
        text: str,
        edits: Sequence[Mapping[str, Any]],
        n_tokens: int,
        temperature: float,
        top_p: float,
        seed: int,
        truncate: bool,
        stop_reason: Callable[[], str | None],
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the events of a generation with a default row (0) and a steered row (1): tokens, token ..., done.

        `stop_reason` is asked before every step; what is there by then is the answer, `stopped` says why.
        """
        begin = time.perf_counter()
        model = self.model(model_spec)
        dictionaries = {source: self.dictionary(model, spec) for source, spec in dictionary_specs.items()}
        tokens, truncated_from = self._tokenize(model, text, truncate=truncate, leave_room=n_tokens)
        yield "tokens", {"tokens": _tokens(model, tokens), "truncated_from": truncated_from}
        asked: list[str] = []

        def should_stop() -> bool:
            if reason := stop_reason():
                asked.append(reason)
            return bool(asked)

        rows = _Rows(n_rows=2)
        variant = [_edit(edit, dictionary_specs[edit["source"]]) for edit in edits]
        for token in generate(
            model,
            tokens,
            n_tokens=n_tokens,
            dictionaries=dictionaries,
            variants=[[], variant],
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            should_stop=should_stop,
        ):
            yield (
                "token",
                rows.add(token.row, token.token_id, token.text_piece, _rounded(token.logprob), token.finish),
            )
        yield (
            "done",
            {
                "tokens": _tokens(model, tokens),
                "rows": rows.as_list(),
                "first_difference": rows.first_difference,
                "stopped": asked[0] if asked else rows.finish,
                "settings": {
                    "edits": list(edits),
                    "n_tokens": n_tokens,
                    "temperature": temperature,
                    "top_p": top_p,
                    "seed": seed,
                },
                "truncated_from": truncated_from,
                "provenance": self._provenance(model, list(dictionary_specs.values()), begin),
            },
        )

    def _tokenize(
        self, model: LanguageModel, text: str, *, truncate: bool, leave_room: int = 0
    ) -> tuple[Tokens, int | None]:
        """Return the tokens and, where the text was cut, how many there were; room is left only by cutting."""
        limit = model.context_size - min(leave_room, model.context_size // 2) if leave_room else None
        if not truncate:
            return model.tokenize(text), None
        tokens = model.tokenize(text, max_tokens=limit, truncate=True)
        if len(tokens.text) == len(text):
            return tokens, None
        n_all = len(model.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]) + tokens.n_special
        return tokens, n_all

    def _provenance(
        self, model: LanguageModel, dictionary_specs: Sequence[DictionarySpec], begin: float
    ) -> dict[str, Any]:
        return {
            "model": model.name,
            "revision": model.revision,
            "dictionaries": [[spec.source, spec.sha256] for spec in dictionary_specs],
            "dtype": str(model.dtype).removeprefix("torch."),
            "device": str(model.device),
            "worker": self.worker,
            "seconds": round(time.perf_counter() - begin, 4),
        }


class _Rows:
    """The texts of a generation as they grow; a token differs when row 0 has another one at its place."""

    def __init__(self, n_rows: int) -> None:
        self._tokens: list[list[dict[str, Any]]] = [[] for _ in range(n_rows)]
        self._finishes = [""] * n_rows
        self.first_difference: int | None = None

    @property
    def finish(self) -> str:
        return next((finish for finish in reversed(self._finishes) if finish), "length")

    def add(self, row: int, token_id: int, text: str, logprob: float, finish: str) -> dict[str, Any]:
        """Keep a token and return its event."""
        place = len(self._tokens[row])
        default = self._tokens[0]
        differs = row > 0 and (place >= len(default) or default[place]["id"] != token_id)
        if differs and self.first_difference is None:
            self.first_difference = place
        self._tokens[row].append({"id": token_id, "text": text, "logprob": logprob})
        self._finishes[row] = finish
        return {
            "row": row,
            "index": place,
            "id": token_id,
            "text": text,
            "logprob": logprob,
            "differs": differs,
            "finish": finish,
        }

    def as_list(self) -> list[dict[str, Any]]:
        return [
            {"text": "".join(token["text"] for token in tokens), "tokens": tokens, "finish": finish}
            for tokens, finish in zip(self._tokens, self._finishes, strict=True)
        ]


def _check_digest(name: str, path: str, *, registered: str, found: str) -> None:
    """Raise Conflict where the weights on disk are not those whose features are shown."""
    if registered and found and registered != found:
        raise Conflict(
            f"The weights of {name} at {path} are not those that were added.",
            "Restore them, or add the new ones under another name.",
            registered=registered,
            found=found,
        )


def _edit(edit: Mapping[str, Any], spec: DictionarySpec) -> Edit:
    if spec.scales is None:
        raise InvalidInput(
            f"{spec.source} is not built, so the maximum that strengths count is not known.", "Build it first."
        )
    return Edit(
        dictionary_key=spec.source,
        feature=edit["index"],
        strength=edit["strength"],
        maximum=float(spec.scales.maxima[edit["index"]]),
    )


def _allowed(scales: Mapping[str, Scales], density: float | None) -> dict[str, np.ndarray] | None:
    """Return which features pass the density limit; sources that are not built pass whole."""
    if density is None:
        return None
    return {source: known.densities <= density for source, known in scales.items()}


def _check_positions(positions: Sequence[int] | None, tokens: Tokens) -> None:
    if positions and positions[-1] >= len(tokens):
        raise InvalidInput(
            f"The text has {len(tokens)} tokens, so there is no position {positions[-1]}.",
            f"Choose positions from {tokens.n_special} to {len(tokens) - 1}.",
            n=len(tokens),
        )


def _ranked_positions(tokens: Tokens, positions: Sequence[int] | None) -> list[int]:
    chosen = range(len(tokens)) if positions is None else positions
    return [position for position in chosen if position >= tokens.n_special]


def _feature(feature: PromptFeature, ranked: Sequence[int]) -> dict[str, Any]:
    firing = np.flatnonzero(feature.values > 0)
    return {
        "source": feature.source,
        "index": feature.index,
        "score": _rounded(feature.score),
        "peak": _rounded(feature.peak_value),
        "peak_position": feature.peak_position,
        "mean": _rounded(float(feature.values[ranked].sum(dtype=np.float64)) / max(1, len(ranked))),
        "positions": firing.tolist(),
        "values": _all_rounded(feature.values[firing]),
    }


def _attribution(attribution: Attribution) -> dict[str, Any]:
    return {
        "destination": attribution.destination,
        "activation": _rounded(attribution.activation),
        "pre_activation": _rounded(attribution.pre_activation),
        "sources": [_rounded(value) for value in attribution.sources],
        "total": _rounded(attribution.total),
        "bias": _rounded(attribution.bias),
        "remainder": _rounded(attribution.remainder),
        "heads": [
            {
                "head": share.head,
                "total": _rounded(share.total),
                "source": share.source,
                "value": _rounded(share.value),
                "weight": _rounded(share.weight),
            }
            for share in attribution.heads
        ],
    }


def _tokens(model: LanguageModel, tokens: Tokens) -> dict[str, Any]:
    return {
        "text": tokens.text,
        "ids": list(tokens.ids),
        "starts": list(tokens.starts),
        "ends": list(tokens.ends),
        "names": [_name(model.token_bytes[token_id]) for token_id in tokens.ids],
        "has_bos": tokens.has_bos,
    }


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _all_rounded(values: np.ndarray) -> list:
    """Return what `_rounded` makes of every number, as nested lists."""
    wide = values.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        digits = DIGITS - 1 - np.floor(np.log10(np.abs(wide)))
    digits = np.where(np.isfinite(digits), digits, 0)
    # A whole number over a power of ten is the nearest number to its decimal fraction; one times 0.001 is not.
    up, down = 10.0 ** np.maximum(digits, 0), 10.0 ** np.maximum(-digits, 0)
    return (np.rint(wide * up / down) * down / up).tolist()


_name = lru_cache(maxsize=1 << 16)(display)
