"""Features of all shards, and what their examples say of them, as arrays in files: little of it is in memory at once.

Suffixes: F features by index, K kept entries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from features.imports.contexts import Token
from features.imports.shards import Counts, Shard
from features.packed_features import LOGITS, SUMS
from features.rows import CHUNK, FEATURE_COLUMNS, LISTS, Chunk, feature_chunk
from inference.packing import Lists

N_PEAKS = 16
# Columns that hold ids of tokens, which differ from one vocabulary to another.
TOKEN_COLUMNS = tuple(
    name for name in FEATURE_COLUMNS if name.endswith("token_ids") or name in ("promoted_ids", "suppressed_ids")
)


class FeatureTable:
    """Every feature of an import once: the first of two lines counts."""

    def __init__(self, shards: Sequence[Shard], workdir: Path, counts: Counts) -> None:
        self._shards = [shard for shard in shards if "index_f" in _names(shard)]
        self._rows: list[np.ndarray] = []
        indices = [shard.array("index_f") for shard in self._shards]
        self.size = max((int(index_f.max()) + 1 for index_f in indices if len(index_f)), default=0)
        for part in shards:
            for number in range(part.facts.get("parts", 0)):
                feature_x = part.array(f"{number}.feature_x")
                self.size = max(self.size, int(feature_x[-1]) + 1 if len(feature_x) else 0)
        self.is_there_f = np.zeros(self.size, dtype=bool)
        self.maximum_f = np.zeros(self.size, dtype=np.float32)
        self.fraction_f = np.zeros(self.size, dtype=np.float64)
        height, fraction = [], []
        for shard, index_f in zip(self._shards, indices, strict=True):
            new = np.flatnonzero(~self.is_there_f[index_f])
            counts.duplicates["features"] += len(index_f) - len(new)
            self.is_there_f[index_f] = True
            self._rows.append(new)
            own = np.asarray(index_f)[new]
            self.maximum_f[own] = np.nan_to_num(shard.array("maximum_f")[new])
            of_shard = shard.array("fraction_f")[new]
            self.fraction_f[own] = np.nan_to_num(of_shard)
            height.append(shard.array("height_f")[new])
            fraction.append(of_shard)
        self._raise_maxima(shards)
        self._estimate = _tokens_from(height, fraction)
        self._peak_path = workdir / "peaks"
        shape = (self.size, N_PEAKS)
        self._peak_id_fk = np.memmap(f"{self._peak_path}.ids", np.int32, "w+", shape=_not_empty(shape))
        self._peak_count_fk = np.memmap(f"{self._peak_path}.counts", np.int32, "w+", shape=_not_empty(shape))
        self._peak_share_fk = np.memmap(f"{self._peak_path}.shares", np.float32, "w+", shape=_not_empty(shape))
        self._peak_id_fk[:] = -1
        self._entropy_f = np.zeros(self.size, dtype=np.float32)
        self._n_seen_f = np.zeros(self.size, dtype=np.int32)

    def __len__(self) -> int:
        return int(self.is_there_f.sum())

    @property
    def has_correlations(self) -> bool:
        """Tell whether the files have correlated features."""
        return any(shard.array("with_id_fk").shape[1] for shard in self._shards)

    def strings(self) -> set[str]:
        """Return every string of a list of logits."""
        found = {string for shard in self._shards for string in shard.lines("strings")}
        for own in (own for shard in self._shards for own in _exact(shard) if own):
            found.update((own.get("tokens") or {}).values())
        return found

    def n_tokens(self, said: int) -> int:
        """Return how many tokens were read: what the files say, else what histograms and densities imply, else 0."""
        return said or self._estimate

    def note_peaks(self, feature: np.ndarray, token: np.ndarray, mass: np.ndarray, count: np.ndarray) -> None:
        """Take the activation and the firings of (feature, token) pairs, sorted by feature; each feature once."""
        total = np.bincount(feature, weights=mass, minlength=self.size)
        share = mass / total[feature]
        self._entropy_f += np.bincount(feature, weights=-share * np.log(share), minlength=self.size).astype(np.float32)
        self._n_seen_f += np.bincount(feature, minlength=self.size).astype(np.int32)
        # Positive floats are in the order of their bits; tokens ascend already where masses are equal.
        falling = np.int64(1 << 31) - mass.astype(np.float32).view(np.int32)
        order = np.argsort((feature << 32) | falling, kind="stable")
        starts = np.flatnonzero(np.concatenate([[True], np.diff(feature) != 0]))
        place = np.arange(len(feature)) - np.repeat(starts, np.diff(np.append(starts, len(feature))))
        kept = place < N_PEAKS
        row, column, order = feature[kept], place[kept], order[kept]
        self._peak_id_fk[row, column] = token[order]
        self._peak_count_fk[row, column] = count[order]
        self._peak_share_fk[row, column] = share[order]

    def chunks(self, tokens: Mapping[str, Token], n_tokens: int, progress: Callable[[int], None]) -> Iterator[Chunk]:
        """Yield every feature, in the order of the files; `progress` is told how many are done."""
        done = 0
        for shard, new in zip(self._shards, self._rows, strict=True):
            id_of = np.array([tokens[string].id for string in shard.lines("strings")], dtype=np.int64)
            exact = list(_exact(shard))
            for first in range(0, len(new), CHUNK):
                rows = new[first : first + CHUNK]
                columns = self._columns(shard, rows, id_of, n_tokens)
                if exact:
                    columns = _replaced(columns, [_from_facet(exact[row], tokens) for row in rows.tolist()])
                yield feature_chunk(columns["index"], columns)
                done += len(rows)
                progress(done)

    def _columns(self, shard: Shard, rows: np.ndarray, id_of: np.ndarray, n_tokens: int) -> dict[str, Any]:
        """Return what the files say of some features of a shard."""
        of = {name: shard.array(name)[rows] for name in _ARRAYS}
        index_f = of["index_f"].astype(np.int64)
        fraction_f = self.fraction_f[index_f]
        count_f = np.where(fraction_f > 0, np.maximum(1, np.rint(fraction_f * n_tokens)), 0).astype(np.int64)
        has_peak_fk = self._peak_id_fk[index_f] >= 0
        columns: dict[str, Any] = {
            "index": index_f,
            "firing_count": count_f,
            "maximum": self.maximum_f[index_f],
            "token_entropy": np.maximum(0, self._entropy_f[index_f]),
            "n_tokens_seen": self._n_seen_f[index_f],
            "band_counts": _rows(of["band_fb"] * count_f[:, None]),
            "histogram": _rows(np.rint(of["share_fb"] * count_f[:, None]).astype(np.int64)),
            "logit_histogram": Lists.padded(of["logit_count_fk"], of["logit_count_fk"] >= 0),
            "peak_token_ids": Lists.padded(self._peak_id_fk[index_f], has_peak_fk),
            "peak_token_counts": Lists.padded(self._peak_count_fk[index_f], has_peak_fk),
            "peak_token_shares": Lists.padded(self._peak_share_fk[index_f], has_peak_fk),
        }
        columns |= {name: of["logit_fm"][:, at] for at, name in enumerate(LOGITS)}
        columns |= {name: of["power_fm"][:, at] * count_f for at, name in enumerate(SUMS)}
        for column, name, paired in _PAIRED:
            kept_fk = of[f"{name}_id_fk"] >= 0
            ids = Lists.padded(of[f"{name}_id_fk"], kept_fk)
            if name in ("pos", "neg"):
                ids = Lists(values_n=id_of[ids.values_n], lengths_r=ids.lengths_r)
            columns |= {f"{column}_ids": ids, f"{column}_{paired}": Lists.padded(of[f"{name}_value_fk"], kept_fk)}
        return columns

    def _raise_maxima(self, shards: Sequence[Shard]) -> None:
        """Take the highest activation of the examples where the features' lines say less."""
        for shard in shards:
            for number in range(shard.facts.get("parts", 0)):
                feature_x, highest_x = shard.array(f"{number}.feature_x"), shard.array(f"{number}.highest_x")
                np.maximum.at(self.maximum_f, feature_x, highest_x)


_ARRAYS = (
    *("index_f", "share_fb", "band_fb", "power_fm", "logit_fm", "logit_count_fk", "pos_id_fk", "pos_value_fk"),
    *("neg_id_fk", "neg_value_fk", "near_id_fk", "near_value_fk", "with_id_fk", "with_value_fk"),
)
# Lists of a feature: the column, the array of a shard, and what is paired with its ids.
_PAIRED = (
    ("promoted", "pos", "values"),
    ("suppressed", "neg", "values"),
    ("decoder_neighbour", "near", "cosines"),
    ("co_firing", "with", "jaccards"),  # correlations: stats of the dictionary say so
)


def _rows(values_fb: np.ndarray) -> Lists:
    return Lists(values_n=values_fb.reshape(-1), lengths_r=np.full(len(values_fb), values_fb.shape[1], np.int64))


def _replaced(columns: Mapping[str, Any], exact: Sequence[Mapping[str, Any] | None]) -> dict[str, Any]:
    """Return columns with those rows replaced of which more is known."""
    made = dict(columns)
    for name in {name for row in exact if row for name in row}:
        known = made.get(name)
        if name in LISTS:
            old = _lists(known, len(exact))
            rows = [old[at] if row is None or name not in row else row[name] for at, row in enumerate(exact)]
            made[name] = Lists.of(rows, LISTS[name])
        else:
            old = np.zeros(len(exact)) if known is None else known
            made[name] = np.array(
                [old[at] if not row or name not in row else row[name] for at, row in enumerate(exact)]
            )
    return made


def _lists(known: Lists | None, n: int) -> list[np.ndarray]:
    return [np.zeros(0)] * n if known is None else np.split(known.values_n, known.bounds[1:-1])


def _from_facet(own: Mapping[str, Any] | None, tokens: Mapping[str, Token]) -> dict[str, Any] | None:
    """Return the columns that another Facet wrote, with the ids that its tokens have here."""
    if not own:
        return None
    texts = own.get("tokens") or {}
    columns = dict(own.get("columns") or {})
    for name in TOKEN_COLUMNS:
        if name in columns:
            columns[name] = [tokens[texts[str(number)]].id for number in columns[name]]
    return columns


def _exact(shard: Shard) -> Iterator[Any]:
    return shard.lines("exact") if shard.facts.get("exact") else iter(())


def _names(shard: Shard) -> set[str]:
    return {path.stem for path in shard.folder.iterdir()}


def _tokens_from(heights: Sequence[np.ndarray], fractions: Sequence[np.ndarray]) -> int:
    """Return how many tokens make the histograms' heights the features' densities; 0 where neither says."""
    if not heights:
        return 0
    height_f, fraction_f = np.concatenate(heights), np.nan_to_num(np.concatenate(fractions))
    told = (height_f > 0) & (fraction_f > 0)
    return int(np.median(height_f[told] / fraction_f[told])) if told.any() else 0


def _not_empty(shape: tuple[int, int]) -> tuple[int, int]:
    return max(1, shape[0]), shape[1]
