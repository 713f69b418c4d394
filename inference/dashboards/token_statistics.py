"""What features do on token ids, from the tables of all shards: entropy, peak tokens, what follows the peaks, and the
index of tokens.

Suffixes: B features of a block, V token ids, K kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from inference.dashboards.selection import places
from inference.dashboards.token_index import TokenIndex

N_PEAK_TOKENS = 16
N_NEXT_TOKENS = 8
_CELLS_AT_ONCE = 1 << 20


def token_statistics(
    features: range,
    parts: Sequence[tuple[np.ndarray, np.ndarray]],
    total_b: np.ndarray,
    maximum_b: np.ndarray,
    d_vocab: int,
    index: TokenIndex,
) -> dict[str, np.ndarray]:
    """Return entropy and most activating token ids of features, and add them to the index.

    `parts` are `(rows a feature, rows)` of the table `mass` of each shard, in the order of shards.
    """
    n = len(features)
    arrays = {
        "token_entropy_f": np.zeros(n, dtype=np.float32),
        "n_tokens_seen_f": np.zeros(n, dtype=np.int32),
        "peak_token_ids_fk": np.full((n, N_PEAK_TOKENS), -1, dtype=np.int32),
        "peak_token_counts_fk": np.zeros((n, N_PEAK_TOKENS), dtype=np.int32),
        "peak_token_shares_fk": np.zeros((n, N_PEAK_TOKENS), dtype=np.float32),
    }
    indptrs = [np.concatenate([[0], np.cumsum(counts)]) for counts, _ in parts]
    step = max(1, _CELLS_AT_ONCE // d_vocab)
    for start in range(0, n, step):
        some = slice(start, min(start + step, n))
        size = some.stop - some.start
        mass_bv, count_bv = np.zeros(size * d_vocab), np.zeros(size * d_vocab, dtype=np.int32)
        for (counts, rows), indptr in zip(parts, indptrs, strict=True):
            own = rows[indptr[some.start] : indptr[some.stop]]
            cells = np.repeat(np.arange(size) * d_vocab, counts[some]) + own["token"]
            mass_bv[cells] += own["mass"]
            count_bv[cells] += own["count"].astype(np.int32)
        mass_bv, count_bv = mass_bv.reshape(size, d_vocab), count_bv.reshape(size, d_vocab)
        index.add(features.start + start, mass_bv, count_bv, maximum_b[some])
        for name, array in _reduced(mass_bv, count_bv, total_b[some]).items():
            arrays[name][some] = array
    return arrays


def next_tokens(features: range, parts: Sequence[tuple[np.ndarray, np.ndarray]], d_vocab: int) -> dict[str, np.ndarray]:
    """Return the token ids that most often follow the peaks of features in contexts, and in how many they do.

    `parts` are `(rows a feature, rows)` of the table `next` of each shard.
    """
    n = len(features)
    found = np.full((n, N_NEXT_TOKENS), -1, dtype=np.int32)
    counts = np.zeros((n, N_NEXT_TOKENS), dtype=np.int32)
    if not parts:
        return {"next_token_ids_fk": found, "next_token_counts_fk": counts}
    number = np.arange(n)
    code = np.concatenate([np.repeat(number, own) * d_vocab + rows["token"] for own, rows in parts])
    order = np.argsort(code, kind="stable")
    code = code[order]
    starts = np.flatnonzero(np.concatenate([[True], code[1:] != code[:-1]])) if len(code) else order
    count = np.add.reduceat(np.concatenate([rows["count"] for _, rows in parts])[order].astype(np.int64), starts)
    feature, token = np.divmod(code[starts], d_vocab)
    order = np.lexsort((token, -count, feature))
    feature, token, count = feature[order], token[order], count[order]
    place = places(feature)
    keep = place < N_NEXT_TOKENS
    found[feature[keep], place[keep]], counts[feature[keep], place[keep]] = token[keep], count[keep]
    return {"next_token_ids_fk": found, "next_token_counts_fk": counts}


def _reduced(mass_bv: np.ndarray, count_bv: np.ndarray, total_b: np.ndarray) -> dict[str, np.ndarray]:
    k = min(N_PEAK_TOKENS, mass_bv.shape[1])
    share_bv = mass_bv / np.maximum(total_b[:, None], 1e-300)
    entropy = -(share_bv * np.log(np.where(share_bv > 0, share_bv, 1.0))).sum(1)
    near = np.argpartition(-mass_bv, k - 1, axis=1)[:, :k]
    near.sort(axis=1)
    order = np.argsort(-np.take_along_axis(mass_bv, near, 1), axis=1, kind="stable")
    best = np.take_along_axis(near, order, 1)
    counts, shares = np.take_along_axis(count_bv, best, 1), np.take_along_axis(share_bv, best, 1)
    padding = ((0, 0), (0, N_PEAK_TOKENS - k))
    return {
        "token_entropy_f": np.maximum(entropy, 0),
        "n_tokens_seen_f": (count_bv > 0).sum(1),
        "peak_token_ids_fk": np.pad(np.where(counts > 0, best, -1), padding, constant_values=-1),
        "peak_token_counts_fk": np.pad(counts, padding),
        "peak_token_shares_fk": np.pad(shares, padding),
    }
