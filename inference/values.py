"""What the engine takes and returns, as frozen values without tensors; this module imports neither torch nor Django.

Positions count tokens from 0, the BOS that Facet prepends included. Character offsets are half-open and point into the
text that was tokenized; BOS has the span (0, 0), and tokens that share a multi-byte character have the same span.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """A text as a model reads it. `has_bos` says that `ids[0]` is a BOS that stands for no text."""

    text: str
    ids: tuple[int, ...]
    starts: tuple[int, ...]
    ends: tuple[int, ...]
    has_bos: bool = False

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def n_special(self) -> int:
        """Leading tokens that statistics, ranks and steering leave out."""
        return int(self.has_bos)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PromptFeature:
    """A feature that fires in a prompt: one value per token, float32, in the units of its dictionary.

    `score` is what the features were ranked by: the maximum, the mean or the last of the ranked positions' values,
    divided by the feature's maximum over its corpus (`maximum`) where that is known.
    """

    source: str
    index: int
    values: np.ndarray
    peak_position: int
    peak_value: float
    score: float
    maximum: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptActivations:
    """The features that a prompt activates most, best first.

    `n_firing` counts all that fire at the ranked positions, `n_hidden` those among them that were not to be ranked.
    """

    tokens: Tokens
    features: tuple[PromptFeature, ...]
    n_firing: int
    n_hidden: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadShare:
    """What one head adds to a feature at a destination, all sources together, and its main source.

    `value` is what comes from there, and `weight` how much of the head's attention it has.
    """

    head: int
    total: float
    source: int
    value: float
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """What each token adds to a feature at a destination, through attention.

    pre_activation = total + bias + remainder, and `total` is the sum of `sources`, one for each token; the remainder is
    rounding. `heads` are those that add or take away most.
    """

    destination: int
    activation: float
    pre_activation: float
    sources: tuple[float, ...]
    total: float
    bias: float
    remainder: float
    heads: tuple[HeadShare, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceAttributions:
    """Where a feature of attention's outputs comes from in a text: `attributions`, strongest destination first.

    `activations` has one value a token, `n_firing` counts the tokens where it fires. With `frozen_norm` a norm lies
    between attention and the dictionary, and is held as it is at each destination.
    """

    tokens: Tokens
    index: int
    activations: tuple[float, ...]
    attributions: tuple[Attribution, ...]
    n_firing: int
    n_heads: int
    frozen_norm: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """One steering edit: a feature of a dictionary, an operation, and its strength as a multiple of `maximum`.

    `maximum` is the feature's largest activation over its corpus; 1 makes `strength` raw.
    """

    dictionary_key: str
    feature: int
    strength: float
    op: str = "add"
    maximum: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratedToken:
    """One sampled token of one row. The pieces of a row concatenate to its decoded text.

    `text_piece` is empty while a character is incomplete. `logprob` is natural, at temperature 1, under the row's own
    steered model; `default_logprob` is that of the same token after the same tokens under the unsteered model, where
    it was asked for. `finish` is empty until the row's last token: then `length`, `eos` or `context`.
    """

    row: int
    position: int
    token_id: int
    text_piece: str
    logprob: float
    default_logprob: float | None = None
    finish: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fidelity:
    """How faithful a dictionary is to its model: the figures that inference/evaluation.py defines and measures.

    A share is None where its denominator is zero. Losses and divergences are in nats a prediction, over `n_predictions`
    tokens. `n_terms` is of how many dictionaries' sum it is.
    """

    n_tokens: int
    n_predictions: int
    l0_mean: float
    l0_median: float
    l0_p90: float
    mean_squared_error: float
    explained_variance: float | None
    ce_clean: float
    ce_spliced: float
    ce_ablated: float
    ce_recovered: float | None
    kl_spliced: float
    kl_ablated: float
    kl_score: float | None
    n_terms: int = 1
