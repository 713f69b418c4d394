"""The figures of an evaluation, as pages and the API show them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Fidelity:
    """What `evaluate` measured of a dictionary on text; inference/evaluation.py defines the figures.

    Losses and divergences are in nats per prediction. `n_terms` is of how many dictionaries' sum this was measured, and
    `split` is the part of the corpus that was read.
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
    corpus: str
    split: str
    context_size: int
    precision: str
    excluded: str
    measured_at: datetime
