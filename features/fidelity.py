"""The figures of an evaluation, as pages and the API show them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from inference import values


@dataclass(frozen=True, slots=True, kw_only=True)
class Fidelity(values.Fidelity):
    """What `evaluate` measured of a dictionary, and on what: `split` is the part of the corpus that was read."""

    corpus: str
    split: str
    context_size: int
    precision: str
    excluded: str
    measured_at: datetime
