"""For each token id the features that fire most on it: what a pass says, and what is stored of it.

Suffixes: V token ids, K kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFeatures:
    """For each token id that made features fire, ascending: those that fire most, padded with -1 and 0."""

    token_ids_v: np.ndarray  # int32
    occurrences_v: np.ndarray  # int64, in the text of the pass
    feature_ids_vk: np.ndarray  # int32
    counts_vk: np.ndarray  # int32, firings on the token id
    strengths_vk: np.ndarray  # float32, 0 to 1

    def __len__(self) -> int:
        return len(self.token_ids_v)
