"""Which features fire in a prompt: ranked over dictionaries, or the values of chosen ones.

Shape suffixes: T tokens, D width of a hook point, N firings, U features that fire, M chosen features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from inference.activations import capture
from inference.dictionaries.dictionary import Dictionary
from inference.dictionaries.sparse import SparseActivations
from inference.errors import InvalidInput
from inference.language_models import LanguageModel
from inference.threads import suited_to
from inference.values import PromptActivations, PromptFeature, SourceActivity, Tokens

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
) -> PromptActivations:
    """Return the `top_k` features of all dictionaries that the prompt activates most, best first.

    The model runs once, up to the deepest hook point. Features are ranked by their maximum, mean or last value over
    `positions` (all, if None), divided by their corpus maximum where `maxima` gives one for each feature of a source:
    without it, dictionaries are compared in their own units. `allowed` says for each feature of a source whether it may
    be ranked; those that fire and may not are counted in `n_hidden`. Values at BOS are left out and shown as zero
    unless `ignore_bos` is off.
    """
    ranked_t = _ranked_positions(tokens, positions, rank, ignore_bos)
    n_ignored = tokens.n_special if ignore_bos else 0
    hook_names = {d.hook_in for d in dictionaries.values()}
    hook_names |= {d.hook_out for d in dictionaries.values() if d.config.reconstructs}
    n_weight_bytes = model.n_bytes + sum(dictionary.n_bytes for dictionary in dictionaries.values())
    features: list[PromptFeature] = []
    sources = []
    n_firing = n_hidden = 0
    with suited_to(n_weight_bytes=n_weight_bytes, n_tokens=len(tokens), device=model.device):
        x = {name: x_btd[0] for name, x_btd in capture(model, model.ids_bt(tokens), hook_names).items()}
        for source, dictionary in dictionaries.items():
            activations = dictionary.encode(x[dictionary.hook_in], [len(tokens)])
            sources.append(_activity(source, dictionary, activations, x, tokens.n_special))
            firing = _score(activations, ranked_t.to(dictionary.device), rank, (maxima or {}).get(source))
            ranked = _only(firing, (allowed or {}).get(source))
            n_firing += len(firing.indices_u)
            n_hidden += len(firing.indices_u) - len(ranked.indices_u)
            features += _best(source, activations, ranked, top_k, n_ignored)
    features.sort(key=lambda feature: (-feature.score, feature.source, feature.index))
    return PromptActivations(
        tokens=tokens,
        features=tuple(features[:top_k]),
        sources=tuple(sources),
        n_firing=n_firing,
        n_hidden=n_hidden,
    )


@torch.inference_mode()
def feature_activations(
    model: LanguageModel, dictionary: Dictionary, tokens: Tokens, indices: Sequence[int], *, ignore_bos: bool = True
) -> Tensor:
    """Return a_tm on the CPU, the activations of chosen features; zero at BOS unless `ignore_bos` is off."""
    with suited_to(n_weight_bytes=model.n_bytes, n_tokens=len(tokens), device=model.device):
        x_btd = capture(model, model.ids_bt(tokens), [dictionary.hook_in])[dictionary.hook_in]
        a_tm = dictionary.encode_features(x_btd[0], indices, [len(tokens)]).float().cpu()
    if ignore_bos:
        a_tm[: tokens.n_special] = 0
    return a_tm


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Scores:
    """The features of one dictionary that fire at ranked positions, and what they are ranked by."""

    indices_u: Tensor
    scores_u: Tensor
    maxima_u: Tensor | None


def _score(activations: SparseActivations, ranked_t: Tensor, rank: Rank, maxima: ArrayLike | None) -> _Scores:
    counted_n = torch.isin(activations.tokens_n, ranked_t)
    values_n = activations.values_n[counted_n].float()
    indices_u, slots_n = activations.indices_n[counted_n].unique(return_inverse=True)
    zeros_u = values_n.new_zeros(len(indices_u))
    peaks_u = zeros_u.scatter_reduce(0, slots_n, values_n, "amax")
    scores_u = zeros_u.index_add(0, slots_n, values_n) / len(ranked_t) if rank == "mean" else peaks_u
    if maxima is None:
        return _Scores(indices_u=indices_u, scores_u=scores_u, maxima_u=None)
    maxima_u = torch.as_tensor(maxima, dtype=torch.float32)[indices_u.cpu()].to(scores_u.device)
    # A feature that never fired in the corpus has no unit but what it reaches here.
    scores_u = scores_u / torch.where(maxima_u > 0, maxima_u, peaks_u)
    return _Scores(indices_u=indices_u, scores_u=scores_u, maxima_u=maxima_u)


def _only(scores: _Scores, allowed: ArrayLike | None) -> _Scores:
    """Return the scores of the features that may be ranked."""
    if allowed is None:
        return scores
    kept_u = torch.as_tensor(allowed, dtype=torch.bool)[scores.indices_u.cpu()].to(scores.indices_u.device)
    return _Scores(
        indices_u=scores.indices_u[kept_u],
        scores_u=scores.scores_u[kept_u],
        maxima_u=None if scores.maxima_u is None else scores.maxima_u[kept_u],
    )


def _best(
    source: str, activations: SparseActivations, scores: _Scores, top_k: int, n_ignored: int
) -> list[PromptFeature]:
    best_m, order_m = scores.scores_u.topk(min(top_k, len(scores.scores_u)))
    indices_m = scores.indices_u[order_m]
    a_mt = activations.columns(indices_m).float().T.cpu()
    a_mt[:, :n_ignored] = 0
    maxima = [None] * len(order_m) if scores.maxima_u is None else scores.maxima_u[order_m].tolist()
    features = []
    for index, score, maximum, a_t in zip(indices_m.tolist(), best_m.tolist(), maxima, a_mt.tolist(), strict=True):
        peak_value = max(a_t)
        features.append(
            PromptFeature(
                source=source,
                index=index,
                values=tuple(a_t),
                peak_position=a_t.index(peak_value),
                peak_value=peak_value,
                score=score,
                maximum=maximum,
            )
        )
    return features


def _ranked_positions(tokens: Tokens, positions: Sequence[int] | None, rank: str, ignore_bos: bool) -> Tensor:
    if rank not in ("max", "mean", "last"):
        raise InvalidInput(f"There is no rank {rank!r}.", "Rank by max, mean or last.", rank=rank)
    first = tokens.n_special if ignore_bos else 0
    chosen = sorted({position for position in positions or range(len(tokens)) if first <= position < len(tokens)})
    if not chosen:
        raise InvalidInput(
            "None of the positions is a token of the prompt.", f"Choose from {first} to {len(tokens) - 1}."
        )
    return torch.tensor(chosen[-1:] if rank == "last" else chosen)


def _activity(
    source: str, dictionary: Dictionary, activations: SparseActivations, x: Mapping[str, Tensor], n_special: int
) -> SourceActivity:
    explained = None
    if dictionary.config.reconstructs:
        y_to = x[dictionary.hook_out].float()
        error_to = y_to - dictionary.decode(activations, x[dictionary.hook_in], [len(y_to)]).float()
        y_to, error_to = y_to[n_special:], error_to[n_special:]
        variance = float((y_to - y_to.mean(0)).square().sum())
        explained = 1 - float(error_to.square().sum()) / variance if variance > 0 else None
    return SourceActivity(source=source, l0=tuple(activations.counts_t.tolist()), explained_variance=explained)
