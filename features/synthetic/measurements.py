"""Made-up dashboards: the arrays that a pass would leave, with distributions like those of trained dictionaries.

Densities are log-normal around one token in 1,600, one feature in fifty is dead; activations are log-normal, so that
sums of powers, histogram and bands of a feature agree with each other. Examples are recorded in the order and with the
invariants of a pass; only what fires where is drawn by lot.

Suffixes as in inference.dashboards.results: F features, B bins, E edges, K kept entries, X examples, S activations.
"""

from __future__ import annotations

import numpy as np

from features.synthetic.text import CONTEXT_SIZE, N_VOCABULARY, zipf
from inference.dashboards.results import (
    BANDS,
    HARD_SILENT,
    RANDOM_SILENT,
    TOP,
    ContextTable,
    DictionaryDashboard,
    Examples,
)
from inference.dashboards.token_features import TokenFeatures

N_BINS, N_LOGIT_BINS = 50, 40
KEPT, EFFECTS, N_NEXT = 16, 20, 8
DEAD_SHARE = 0.02
SPREAD = 0.9  # standard deviation of the logarithm of a feature's activations
MOST_FIRING = 24
EDGES_E = 2.0 ** (np.arange(N_BINS + 1) / 2 - 15)


def dashboard(
    *, source: str, seed: int, dictionary: int, n_features: int, per_feature: int, contexts: ContextTable
) -> DictionaryDashboard:
    """Return the dashboard of one dictionary, with `per_feature` examples of every feature that fires."""
    rng = np.random.default_rng([seed, 3, dictionary])
    n_tokens = contexts.n_tokens
    density_f = np.minimum(10 ** rng.normal(-3.2, 0.7, n_features), 0.6)
    firing_f = np.maximum((density_f * n_tokens).astype(np.int64), 2 * per_feature)
    firing_f[rng.random(n_features) < DEAD_SHARE] = 0
    alive_f = firing_f > 0
    middle_f = rng.normal(0.0, 0.6, n_features)  # median activation, as a logarithm
    maximum_f = np.where(alive_f, np.exp(middle_f + SPREAD * 3.2), 0.0).astype(np.float32)
    power_f = [firing_f * np.exp(p * middle_f + (p * SPREAD) ** 2 / 2) for p in (1, 2, 3, 4)]
    share_fk, kept_f = _peak_shares(rng, n_features)
    peak_ids_fk = np.where(share_fk > 0, _tokens(rng, n_features, KEPT, flat=4.0), -1)
    none_f = ~alive_f
    peak_ids_fk[none_f], share_fk[none_f] = -1, 0.0
    neighbours_fk, cosines_fk = _neighbours(rng, n_features)
    co_firing_fk, jaccards_fk = _neighbours(rng, n_features)
    co_firing_fk[none_f], jaccards_fk[none_f] = -1, 0.0
    effects_fk = _tokens(rng, n_features, 2 * EFFECTS, flat=200.0)
    sizes_fk = -np.sort(-rng.gamma(3.0, 0.35, (n_features, EFFECTS)), axis=1).astype(np.float32)
    widths_f = sizes_fk[:, 0]
    entropy_f = -(share_fk * np.log(np.maximum(share_fk, 1e-9))).sum(axis=1)
    return DictionaryDashboard(
        source=source,
        n_features=n_features,
        n_tokens=n_tokens,
        n_contexts=len(contexts),
        firing_count_f=firing_f,
        context_count_f=np.where(alive_f, np.clip(firing_f // 4, 1, len(contexts)), 0),
        total_f=power_f[0],
        total_sq_f=power_f[1],
        total_cube_f=power_f[2],
        total_fourth_f=power_f[3],
        maximum_f=maximum_f,
        log_histogram_fb=_histogram(firing_f, middle_f, np.log(EDGES_E)[None, :]),
        log_edges_e=EDGES_E,
        band_count_fb=_bands(firing_f, middle_f, maximum_f),
        token_entropy_f=entropy_f.astype(np.float32),
        n_tokens_seen_f=np.where(alive_f, kept_f * 3, 0).astype(np.int32),
        peak_token_ids_fk=peak_ids_fk,
        peak_token_counts_fk=(share_fk * firing_f[:, None]).astype(np.int32),
        peak_token_shares_fk=share_fk.astype(np.float32),
        next_token_ids_fk=peak_ids_fk[:, :N_NEXT],
        next_token_counts_fk=np.where(peak_ids_fk[:, :N_NEXT] >= 0, 1, 0).astype(np.int32),
        token_features=_token_features(rng, n_features, n_tokens),
        co_firing_ids_fk=co_firing_fk,
        co_firing_jaccards_fk=jaccards_fk,
        co_firing_counts_fk=(jaccards_fk * firing_f[:, None]).astype(np.int64),
        co_firing_exact=True,
        decoder_neighbour_ids_fk=neighbours_fk,
        decoder_neighbour_cosines_fk=cosines_fk,
        encoder_neighbour_ids_fk=neighbours_fk,
        encoder_neighbour_cosines_fk=cosines_fk,
        promoted_ids_fk=effects_fk[:, :EFFECTS],
        promoted_values_fk=sizes_fk,
        suppressed_ids_fk=effects_fk[:, EFFECTS:],
        suppressed_values_fk=-sizes_fk,
        logit_histogram_fb=_logit_histogram(n_features),
        logit_edges_fe=np.linspace(-widths_f, widths_f, N_LOGIT_BINS + 1, axis=1).astype(np.float32),
        logit_deviation_f=(widths_f / 4).astype(np.float32),
        logit_skewness_f=rng.normal(0.0, 0.3, n_features).astype(np.float32),
        logit_kurtosis_f=rng.normal(0.5, 0.5, n_features).astype(np.float32),
        examples=_examples(rng, np.flatnonzero(alive_f), maximum_f, per_feature, contexts),
        l0_mean=float(firing_f.sum() / n_tokens),
        l0_median=float(firing_f.sum() / n_tokens),
        l0_p90=float(1.3 * firing_f.sum() / n_tokens),
        l0_histogram=np.zeros(0, dtype=np.int64),
        error_histogram=np.zeros(0, dtype=np.int64),
        explained_variance=0.0,
        mean_squared_error=0.0,
        dead=int(none_f.sum()),
        dense=int((firing_f > 0.1 * n_tokens).sum()),
    )


def _token_features(rng: np.random.Generator, n_features: int, n_tokens: int) -> TokenFeatures:
    """Return features of every token id: ids occur by Zipf's law, and features fire on some of their occurrences."""
    weight_v = 1.0 / (np.arange(N_VOCABULARY) + 2.0)
    occurrences_v = np.maximum(n_tokens * weight_v / weight_v.sum(), 1).astype(np.int64)
    kept = min(KEPT, n_features)
    step_vk = rng.integers(1, max(2, n_features // kept), (N_VOCABULARY, kept))
    feature_vk = (rng.integers(0, n_features, (N_VOCABULARY, 1)) + np.cumsum(step_vk, axis=1)) % n_features
    strength_vk = -np.sort(-rng.beta(2.0, 5.0, feature_vk.shape), axis=1)
    return TokenFeatures(
        token_ids_v=np.arange(N_VOCABULARY, dtype=np.int32),
        occurrences_v=occurrences_v,
        feature_ids_vk=feature_vk.astype(np.int32),
        counts_vk=np.ceil(occurrences_v[:, None] * np.minimum(1.0, 2 * strength_vk)).astype(np.int32),
        strengths_vk=strength_vk.astype(np.float32),
    )


def _tokens(rng: np.random.Generator, n: int, k: int, *, flat: float) -> np.ndarray:
    """Return different token ids per row by Zipf's law: every column draws from residues of its own."""
    rank_nk = zipf(rng, (n, k), N_VOCABULARY // k, flat=flat)
    residue_nk = (np.arange(k)[None, :] + rng.integers(0, k, (n, 1))) % k
    return (rank_nk * k + residue_nk).astype(np.int32)


def _peak_shares(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the shares of the peak tokens, falling along a row and zero beyond the number kept, and that number."""
    kept_f = rng.integers(2, KEPT + 1, n)
    weight_fk = np.exp(-np.arange(KEPT)[None, :] * rng.uniform(0.1, 2.0, (n, 1)))
    weight_fk *= np.arange(KEPT)[None, :] < kept_f[:, None]
    return rng.uniform(0.4, 1.0, (n, 1)) * weight_fk / weight_fk.sum(axis=1, keepdims=True), kept_f


def _neighbours(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return different other features per row, with falling values."""
    kept = min(KEPT, n - 1)
    step_fk = rng.integers(1, max(2, n // (kept + 1)), (n, kept))
    ids_fk = (np.arange(n)[:, None] + np.cumsum(step_fk, axis=1)) % n
    return ids_fk.astype(np.int32), -np.sort(-rng.beta(2.0, 5.0, (n, kept)), axis=1).astype(np.float32)


def _histogram(firing_f: np.ndarray, middle_f: np.ndarray, edges_e: np.ndarray) -> np.ndarray:
    """Return firing tokens between the edges (logarithms) of a log-normal; the outer bins take what lies beyond."""
    share_fe = _below((edges_e - middle_f[:, None]) / SPREAD)
    share_fe[:, 0], share_fe[:, -1] = 0.0, 1.0
    # Rounding the running total keeps the sum of every row.
    return np.diff(np.rint(share_fe * firing_f[:, None]), axis=1).astype(np.int64)


def _bands(firing_f: np.ndarray, middle_f: np.ndarray, maximum_f: np.ndarray) -> np.ndarray:
    low_b = np.array([max(low, 1e-9) for low, _ in BANDS.values()])
    edge_fb = np.log(np.maximum(maximum_f, 1e-9))[:, None] + np.log(low_b)[None, :]
    above_fb = 1.0 - _below((edge_fb - middle_f[:, None]) / SPREAD)
    return np.diff(above_fb, axis=1, prepend=0.0) * firing_f[:, None]


def _below(z: np.ndarray) -> np.ndarray:
    """Return the logistic approximation of the normal distribution function."""
    return 1.0 / (1.0 + np.exp(-1.702 * z))


def _logit_histogram(n: int) -> np.ndarray:
    share_b = np.diff(_below(np.linspace(-4.0, 4.0, N_LOGIT_BINS + 1)))
    return np.tile(np.rint(N_VOCABULARY * share_b / share_b.sum()).astype(np.int32), (n, 1))


def _examples(
    rng: np.random.Generator, alive_n: np.ndarray, maximum_f: np.ndarray, per_feature: int, contexts: ContextTable
) -> Examples:
    """Return `per_feature` examples of every feature: a third top, half in bands, the rest silent."""
    codes = _codes(per_feature)
    n_examples = len(alive_n) * per_feature
    feature_x = np.repeat(alive_n, per_feature).astype(np.int32)
    group_x = np.tile(np.array([code for code, _ in codes], dtype=np.uint8), len(alive_n))
    rank_x = np.tile(np.array([rank for _, rank in codes], dtype=np.uint16), len(alive_n))
    place_x = np.tile(np.arange(per_feature), len(alive_n))
    first_x = np.repeat(rng.integers(0, len(contexts), len(alive_n)), per_feature)
    stride = max(1, len(contexts) // (per_feature + 1))
    context_x = ((first_x + place_x * stride) % len(contexts)).astype(np.int32)
    maximum_x = maximum_f[feature_x]
    low_g, high_g = np.zeros(8), np.zeros(8)
    for code, (low, high) in BANDS.items():
        low_g[code], high_g[code] = low, high
    share_x = low_g[group_x] + (high_g - low_g)[group_x] * (0.05 + 0.9 * rng.random(n_examples))
    share_x = np.where(group_x == TOP, 1.0 - 0.04 * rank_x, share_x)
    silent_x = group_x >= HARD_SILENT
    peak_x = np.where(group_x == HARD_SILENT, -0.01, np.where(silent_x, 0.0, share_x * maximum_x)).astype(np.float32)
    count_x = np.where(silent_x, 0, np.minimum(rng.geometric(0.2, n_examples), MOST_FIRING))
    # A key of example and position, sorted and without repeats, is every example's positions in order.
    row_s = np.repeat(np.arange(n_examples), count_x)
    key_s = np.unique(row_s * CONTEXT_SIZE + rng.integers(1, CONTEXT_SIZE, len(row_s)))
    row_s, position_s = key_s // CONTEXT_SIZE, (key_s % CONTEXT_SIZE).astype(np.uint16)
    indptr_x = np.searchsorted(row_s, np.arange(n_examples + 1)).astype(np.int64)
    fired_x = np.diff(indptr_x)
    peak_at_x = indptr_x[:-1] + (rng.random(n_examples) * np.maximum(fired_x, 1)).astype(np.int64)
    value_s = peak_x[row_s] * (0.05 + 0.9 * rng.random(len(row_s)) ** 2)
    some_x = np.flatnonzero(fired_x)
    value_s[peak_at_x[some_x]] = peak_x[some_x]
    peak_position_x = np.zeros(n_examples, dtype=np.uint16)
    peak_position_x[some_x] = position_s[peak_at_x[some_x]]
    return Examples(
        feature_x=feature_x,
        group_x=group_x,
        rank_x=rank_x,
        context_x=context_x,
        peak_position_x=peak_position_x,
        peak_value_x=peak_x,
        split_x=contexts.split_c[context_x],
        indptr_x=indptr_x,
        positions_s=position_s,
        values_s=value_s.astype(np.float16),
    )


def _codes(per_feature: int) -> list[tuple[int, int]]:
    """Return `(group, rank)` of a feature's examples in order."""
    silent = per_feature // 10
    top = max(1, per_feature // 3)
    rest = per_feature - top - 2 * silent
    sizes = {TOP: top}
    sizes |= {code: rest // len(BANDS) + (place < rest % len(BANDS)) for place, code in enumerate(BANDS)}
    sizes |= {HARD_SILENT: silent, RANDOM_SILENT: silent}
    return [(code, rank) for code, size in sizes.items() for rank in range(size)]
