"""What choosing examples needs to know of each token and context of a corpus, looked up once for all dictionaries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inference.dashboards.corpus import local_keys, mixed
from inference.dashboards.results import ContextTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Columns over tokens (T) and contexts (C)."""

    context_t: np.ndarray  # int32
    first_token_c: np.ndarray  # int64, the context's first token, BOS included
    eligible_c: np.ndarray  # bool, False for duplicates of earlier contexts
    key_t: np.ndarray  # uint64, equal where the surroundings are
    lot_t: np.ndarray  # uint32, the key's upper half
    key_c: np.ndarray  # uint64, a hash of the context

    @classmethod
    def of(cls, contexts: ContextTable) -> Places:
        lengths, key_t = np.diff(contexts.indptr_c), local_keys(contexts)
        return cls(
            context_t=np.repeat(np.arange(len(contexts), dtype=np.int32), lengths),
            first_token_c=contexts.indptr_c[:-1],
            eligible_c=contexts.duplicate_of_c == np.arange(len(contexts)),
            key_t=key_t,
            lot_t=(key_t >> np.uint64(32)).astype(np.uint32),
            key_c=mixed(np.arange(len(contexts), dtype=np.uint64)),
        )
