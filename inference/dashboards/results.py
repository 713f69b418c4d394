"""What a pass over a corpus leaves: the border between the engine and whoever stores or shows dashboards.

Everything here is NumPy, text and plain numbers; this module imports neither torch nor Django.
Arrays carry suffixes: F features, B bins or bands, E edges, K kept entries, X examples, S recorded activations
(segments of examples end to end), C contexts, T tokens of all contexts end to end.

Statistics never count the BOS token that opens a context, nor padding. Positions count it: position 0 is BOS where
the model has one, so that `positions` index a context's `token_ids` as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from inference.dashboards.token_features import TokenFeatures

TOP, HARD_SILENT, RANDOM_SILENT = 0, 6, 7
# Codes 1-5 are bands: (low, high] as shares of the feature's maximum over the pass.
BANDS: dict[int, tuple[float, float]] = {1: (0.75, 1.0), 2: (0.5, 0.75), 3: (0.25, 0.5), 4: (0.1, 0.25), 5: (0.0, 0.1)}
SPLITS = ("train", "test")


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentRef:
    """A document of a corpus: `ordinal` is the caller's key, `path` is where its text is, `split` is train or test.

    Where `start` is given, the text is `field` of the line of JSON in the `n_bytes` there; else it is the whole file.
    """

    ordinal: int
    name: str
    path: str
    split: str = "train"
    sha256: str = ""
    start: int | None = None
    n_bytes: int = 0
    field: str = "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class SkippedDocument:
    """A document that gave no context, with the reason.

    One of: empty, enormous, unreadable, not UTF-8, not JSON, binary, short.
    """

    ordinal: int
    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A moment of a pass: `done` of `total` `unit`s of `phase` (read, encode, reduce, decode)."""

    phase: str
    done: int
    total: int
    unit: str
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextTable:
    """Windows of tokens, stored once however many features fire in them.

    Tokens of context i are `token_ids_t[indptr_c[i]:indptr_c[i + 1]]`; `starts_t` and `ends_t` are character offsets
    into `text[i]`. BOS has the span (0, 0), and the tokens of one multi-byte character share its span.
    `line_c` is the 1-based line of the document where the text starts. `duplicate_of_c` names the first context with
    the same text up to spacing and case, or itself: later ones count in statistics and are never examples;
    `n_similar_c` is how many such later ones a context has.
    """

    text: Sequence[str]
    document_c: np.ndarray  # int32, DocumentRef.ordinal
    line_c: np.ndarray  # int32
    split_c: np.ndarray  # uint8, an index into SPLITS
    duplicate_of_c: np.ndarray  # int32
    n_similar_c: np.ndarray  # int32
    indptr_c: np.ndarray  # int64, one entry more than contexts
    token_ids_t: np.ndarray  # uint32
    starts_t: np.ndarray  # uint32
    ends_t: np.ndarray  # uint32
    has_bos: bool
    digest: str  # sha256 of ids, offsets, lines, splits and document names

    def __len__(self) -> int:
        return len(self.text)

    def tokens(self, context: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return `(token ids, starts, ends)` of one context, BOS included."""
        span = slice(int(self.indptr_c[context]), int(self.indptr_c[context + 1]))
        return self.token_ids_t[span], self.starts_t[span], self.ends_t[span]

    @property
    def n_tokens(self) -> int:
        """Tokens of text: BOS tokens are not counted."""
        return len(self.token_ids_t) - len(self) * self.has_bos


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """Recorded activations of all features of a dictionary, as a struct of arrays sorted by (feature, group, rank).

    Example i belongs to `feature_x[i]` and was chosen for `group_x[i]`: 0 the contexts with the highest peaks,
    1-5 a sample of the tokens whose activations lie in a band, 6 contexts where the feature is silent with the highest
    pre-activation, 7 a sample of contexts where it is silent. A context appears once per feature: the top goes first,
    then the band with the fewest contexts to choose from.
    `peak_position_x` is the token for which a context was chosen, `peak_value_x` its activation: the context's peak for
    group 0, the sampled token for bands, whose context may well rise above the band elsewhere. For group 6 they are the
    highest pre-activation and its place; for group 7 both are 0.
    Recorded activations are all of the context: `positions_s` and `values_s` of `indptr_x[i]:indptr_x[i + 1]`, empty
    for the silent.
    """

    feature_x: np.ndarray  # int32
    group_x: np.ndarray  # uint8
    rank_x: np.ndarray  # uint16, from 0 inside (feature, group)
    context_x: np.ndarray  # int32, ordinal in the ContextTable
    peak_position_x: np.ndarray  # uint16
    peak_value_x: np.ndarray  # float32
    split_x: np.ndarray  # uint8, an index into SPLITS
    indptr_x: np.ndarray  # int64, one entry more than examples
    positions_s: np.ndarray  # uint16
    values_s: np.ndarray  # float16

    def __len__(self) -> int:
        return len(self.feature_x)

    def of_feature(self, feature: int) -> range:
        """Return the row numbers of one feature's examples."""
        low, high = np.searchsorted(self.feature_x, [feature, feature + 1])
        return range(int(low), int(high))

    def recorded(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Return `(positions, values)` of one example."""
        span = slice(int(self.indptr_x[row]), int(self.indptr_x[row + 1]))
        return self.positions_s[span], self.values_s[span]


@dataclass(frozen=True, slots=True, kw_only=True)
class DictionaryDashboard:
    """Everything that one pass measured of one dictionary.

    Lists of K ids are padded with -1 where a feature has fewer; the paired values are 0 there. Of architectures that
    keep signs, features fire where they are above zero; only L0, the reconstruction and silence know of the rest.
    """

    source: str
    n_features: int
    n_tokens: int  # text tokens scanned: the denominator of every density
    n_contexts: int

    # activations
    firing_count_f: np.ndarray  # int64, tokens where the feature is above zero
    context_count_f: np.ndarray  # int64, contexts with at least one such token
    total_f: np.ndarray  # float64, sum of activations; then of squares, cubes, fourth powers
    total_sq_f: np.ndarray
    total_cube_f: np.ndarray
    total_fourth_f: np.ndarray
    maximum_f: np.ndarray  # float32
    log_histogram_fb: np.ndarray  # int64 [F, 50], counts of activations; the outer bins take what lies beyond
    log_edges_e: np.ndarray  # float64 [51], two bins an octave, the same for every dictionary
    band_count_fb: np.ndarray  # float64 [F, 5], firing tokens per band, interpolated in a histogram of 100 bins

    # tokens
    token_entropy_f: np.ndarray  # float32, nats, of the share of activation mass on each token id
    n_tokens_seen_f: np.ndarray  # int32, distinct token ids where the feature fires
    peak_token_ids_fk: np.ndarray  # int32 [F, 16], by activation mass
    peak_token_counts_fk: np.ndarray  # int32, firings on that token id
    peak_token_shares_fk: np.ndarray  # float32, its share of the feature's activation mass
    next_token_ids_fk: np.ndarray  # int32 [F, 8], what follows the peaks in contexts where the feature fires
    next_token_counts_fk: np.ndarray  # int32, in how many contexts
    token_features: TokenFeatures

    # other features
    co_firing_ids_fk: np.ndarray  # int32 [F, 16], by Jaccard over tokens, at least 5 shared tokens
    co_firing_jaccards_fk: np.ndarray  # float32
    co_firing_counts_fk: np.ndarray  # int64, tokens where both fire
    co_firing_exact: bool  # False: counts are lower bounds from each shard's nearest pairs
    decoder_neighbour_ids_fk: np.ndarray  # int32 [F, 16]
    decoder_neighbour_cosines_fk: np.ndarray  # float32
    encoder_neighbour_ids_fk: np.ndarray  # int32 [F, 16]
    encoder_neighbour_cosines_fk: np.ndarray  # float32

    # direct effect on the logits of the unit output direction, centred over the vocabulary
    promoted_ids_fk: np.ndarray  # int32 [F, 20]
    promoted_values_fk: np.ndarray  # float32, descending
    suppressed_ids_fk: np.ndarray  # int32 [F, 20]
    suppressed_values_fk: np.ndarray  # float32, ascending
    logit_histogram_fb: np.ndarray  # int32 [F, 40]
    logit_edges_fe: np.ndarray  # float32 [F, 41], equal widths from the feature's lowest to its highest effect
    logit_deviation_f: np.ndarray  # float32
    logit_skewness_f: np.ndarray  # float32
    logit_kurtosis_f: np.ndarray  # float32, 0 for a normal distribution

    examples: Examples

    # the dictionary as a whole
    l0_mean: float
    l0_median: float
    l0_p90: float
    l0_histogram: np.ndarray  # int64, tokens by how many features fire there, from 0 on; empty where not counted
    # of |y - y_hat| / |y| of each token: bins a hundredth wide, the last open; empty where nothing reconstructs y
    error_histogram: np.ndarray
    explained_variance: float  # 1 - sum |y - y_hat|^2 / sum |y - mean y|^2, the mean over the whole pass; or nan
    mean_squared_error: float  # per token, summed over dimensions; or nan
    dead: int  # features that never fired in n_tokens
    dense: int  # features that fired on more than a tenth of them

    @property
    def density_f(self) -> np.ndarray:
        """Share of tokens where each feature fires."""
        return self.firing_count_f / max(self.n_tokens, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class PassResult:
    """The contexts of a pass and one dashboard per source, with what is needed to say where they come from.

    `provenance` is JSON-ready: model name, revision and digest, dictionaries' digests, corpus digest, token and context
    counts, context size, BOS, precision, versions, layout. `measurements` is what differs between two equal passes:
    seconds by stage, tokens per second, resumed shards, peak memory.
    """

    contexts: ContextTable
    dashboards: dict[str, DictionaryDashboard]
    skipped: list[SkippedDocument] = field(default_factory=list)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    measurements: Mapping[str, Any] = field(default_factory=dict)
