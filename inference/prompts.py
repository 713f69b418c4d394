"""Which features fire in a prompt: ranked over dictionaries, or the values of chosen ones.

Prompts are short, and what fires in them is little: it is ranked by NumPy on the CPU, wherever the dictionary is.

Shape suffixes: T tokens, N firings, F features, U features that fire, M chosen features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from inference.dictionaries.dictionary import Dictionary
from inference.dictionaries.sparse import SparseActivations
from inference.errors import InvalidInput
from inference.language_models import LanguageModel
from inference.readings import Readings
from inference.threads import suited_to
from inference.values import PromptActivations, PromptFeature, Tokens

Rank = Literal["max", "mean", "last"]


@torch.inference_mode()
def prompt_features(
    model: LanguageModel,
    dictionaries: Mapping[str, Dictionary],
    tokens: Tokens,
    *,
    top_k: int = 50,
    rank: Rank = "max",
    positions: Sequence[int] | None = None,
    maxima: Mapping[str, ArrayLike] | None = None,
    allowed: Mapping[str, ArrayLike] | None = None,
    ignore_bos: bool = True,
    readings: Readings | None = None,
) -> PromptActivations:
    """Return the `top_k` features of all dictionaries that the prompt activates most, best first.

    The model runs once, up to the deepest hook point, or not at all where `readings` has the text. Features are ranked
    by their maximum, mean or last value over `positions` (all, if None), divided by their corpus maximum where `maxima`
    gives one for each feature of a source: without it, dictionaries are compared in their own units. `allowed` says for
    each feature of a source whether it may be ranked; those that fire and may not are counted in `n_hidden`. Values at
    BOS are left out and shown as zero unless `ignore_bos` is off.
    """
    readings = readings or Readings()
    ranked_t = _ranked_positions(tokens, positions, rank, ignore_bos)
    n_ignored = tokens.n_special if ignore_bos else 0
    n_weight_bytes = model.n_bytes + sum(dictionary.n_bytes for dictionary in dictionaries.values())
    features: list[PromptFeature] = []
    n_firing = n_hidden = 0
    with suited_to(n_weight_bytes=n_weight_bytes, n_tokens=len(tokens), device=model.device):
        x = readings.inputs(model, tokens, dict.fromkeys(d.hook_in for d in dictionaries.values()))
        for source, dictionary in dictionaries.items():
            activations = dictionary.encode(x[dictionary.hook_in], [len(tokens)])
            readings.keep(model, tokens, dictionary, activations)
            firings = _Firings.of(activations)
            firing = _score(firings, ranked_t, rank, (maxima or {}).get(source))
            ranked = _only(firing, (allowed or {}).get(source))
            n_firing += len(firing.indices_u)
            n_hidden += len(firing.indices_u) - len(ranked.indices_u)
            features += _best(source, firings, ranked, top_k, n_ignored)
    features.sort(key=lambda feature: (-feature.score, feature.source, feature.index))
    return PromptActivations(tokens=tokens, features=tuple(features[:top_k]), n_firing=n_firing, n_hidden=n_hidden)


@torch.inference_mode()
def feature_activations(
    model: LanguageModel,
    dictionary: Dictionary,
    tokens: Tokens,
    indices: Sequence[int],
    *,
    ignore_bos: bool = True,
    readings: Readings | None = None,
) -> Tensor:
    """Return a_tm on the CPU, the activations of chosen features; zero at BOS unless `ignore_bos` is off."""
    readings = readings or Readings()
    with suited_to(n_weight_bytes=model.n_bytes, n_tokens=len(tokens), device=model.device):
        a_tm = readings.features(model, tokens, dictionary, indices).float().cpu()
    if ignore_bos:
        a_tm[: tokens.n_special] = 0
    return a_tm


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Firings:
    """Sparse activations as arrays: a token, a feature and a value for each firing."""

    tokens_n: np.ndarray
    indices_n: np.ndarray
    values_n: np.ndarray
    n_tokens: int
    n_features: int

    @classmethod
    def of(cls, activations: SparseActivations) -> _Firings:
        return cls(
            tokens_n=np.repeat(np.arange(activations.n_tokens), np.diff(activations.indptr.cpu().numpy())),
            indices_n=activations.indices_n.cpu().numpy(),
            values_n=activations.values_n.float().cpu().numpy(),
            n_tokens=activations.n_tokens,
            n_features=activations.n_features,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Scores:
    """The features of one dictionary that fire at ranked positions, ascending, and what they are ranked by."""

    indices_u: np.ndarray
    scores_u: np.ndarray
    maxima_u: np.ndarray | None


def _score(firings: _Firings, ranked_t: np.ndarray, rank: Rank, maxima: ArrayLike | None) -> _Scores:
    is_ranked_t = np.zeros(firings.n_tokens, dtype=bool)
    is_ranked_t[ranked_t] = True
    counted_n = is_ranked_t[firings.tokens_n]
    indices_n, values_n = firings.indices_n[counted_n], firings.values_n[counted_n]
    fires_f = np.zeros(firings.n_features, dtype=bool)
    fires_f[indices_n] = True
    indices_u = np.flatnonzero(fires_f)
    peaks_f = np.zeros(firings.n_features, dtype=np.float32)
    np.maximum.at(peaks_f, indices_n, values_n)
    peaks_u = peaks_f[indices_u]
    scores_u = peaks_u
    if rank == "mean":
        scores_u = np.bincount(indices_n, weights=values_n, minlength=firings.n_features)[indices_u] / len(ranked_t)
    if maxima is None:
        return _Scores(indices_u=indices_u, scores_u=scores_u, maxima_u=None)
    maxima_u = np.asarray(maxima, dtype=np.float32)[indices_u]
    # A feature that never fired in the corpus has no unit but what it reaches here; one that is negative has neither.
    unit_u = np.where(maxima_u > 0, maxima_u, peaks_u)
    return _Scores(indices_u=indices_u, scores_u=scores_u / np.where(unit_u > 0, unit_u, 1), maxima_u=maxima_u)


def _only(scores: _Scores, allowed: ArrayLike | None) -> _Scores:
    """Return the scores of the features that may be ranked."""
    if allowed is None:
        return scores
    kept_u = np.asarray(allowed, dtype=bool)[scores.indices_u]
    return _Scores(
        indices_u=scores.indices_u[kept_u],
        scores_u=scores.scores_u[kept_u],
        maxima_u=None if scores.maxima_u is None else scores.maxima_u[kept_u],
    )


def _best(source: str, firings: _Firings, scores: _Scores, top_k: int, n_ignored: int) -> list[PromptFeature]:
    order_m = _largest(scores.scores_u, top_k)
    indices_m = scores.indices_u[order_m]
    slot_f = np.full(firings.n_features, -1)
    slot_f[indices_m] = np.arange(len(indices_m))
    slots_n = slot_f[firings.indices_n]
    chosen_n = np.flatnonzero(slots_n >= 0)
    a_mt = np.zeros((len(indices_m), firings.n_tokens), dtype=np.float32)
    a_mt[slots_n[chosen_n], firings.tokens_n[chosen_n]] = firings.values_n[chosen_n]
    a_mt[:, :n_ignored] = 0
    maxima = [None] * len(order_m) if scores.maxima_u is None else scores.maxima_u[order_m].tolist()
    columns = (indices_m, scores.scores_u[order_m], a_mt.argmax(1), a_mt.max(1, initial=-np.inf))
    rows = zip(*(column.tolist() for column in columns), maxima, a_mt, strict=True)
    return [
        PromptFeature(
            source=source,
            index=index,
            values=a_t,
            peak_position=position,
            peak_value=peak,
            score=score,
            maximum=maximum,
        )
        for index, score, position, peak, maximum, a_t in rows
    ]


def _largest(scores_u: np.ndarray, count: int) -> np.ndarray:
    """Return the places of the largest scores, the largest first, equal ones in the order in which they stand."""
    places = np.arange(len(scores_u))
    if len(scores_u) > count:
        places = np.flatnonzero(scores_u >= np.partition(scores_u, -count)[-count])
    return places[np.argsort(-scores_u[places], kind="stable")][:count]


def _ranked_positions(tokens: Tokens, positions: Sequence[int] | None, rank: str, ignore_bos: bool) -> np.ndarray:
    if rank not in ("max", "mean", "last"):
        raise InvalidInput(f"There is no rank {rank!r}.", "Rank by max, mean or last.", rank=rank)
    first = tokens.n_special if ignore_bos else 0
    chosen = sorted({position for position in positions or range(len(tokens)) if first <= position < len(tokens)})
    if not chosen:
        raise InvalidInput(
            "None of the positions is a token of the prompt.", f"Choose from {first} to {len(tokens) - 1}."
        )
    return np.array(chosen[-1:] if rank == "last" else chosen)
