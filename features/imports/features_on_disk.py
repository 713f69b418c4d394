"""Features of all shards, and what their examples say of them, as arrays in files: little of it is in memory at once.

Suffixes: F features by index, K kept entries.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from features.imports.contexts import Token
from features.imports.shards import Counts, Shard
from features.rows import FEATURE_COLUMNS

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

    def rows(self, tokens: Mapping[str, Token], n_tokens: int) -> Iterator[dict[str, Any]]:
        """Yield the columns of every feature, in the order of the files."""
        for shard, rows in zip(self._shards, self._rows, strict=True):
            arrays = {name: shard.array(name)[rows] for name in _ARRAYS}
            strings = [tokens[string].id for string in shard.lines("strings")]
            exact = list(_exact(shard)) or None
            for row, number in enumerate(rows.tolist()):
                columns = self._row({name: array[row] for name, array in arrays.items()}, strings, n_tokens)
                if exact is not None and exact[number]:
                    columns |= _from_facet(exact[number], tokens)
                yield columns

    def _row(self, of: Mapping[str, Any], strings: list[int], n_tokens: int) -> dict[str, Any]:
        index = int(of["index_f"])
        fraction = float(self.fraction_f[index])
        count = max(1, round(fraction * n_tokens)) if fraction > 0 else 0
        low, high, deviation, skewness, kurtosis = of["logit_fm"].tolist()
        n_peaks = int((self._peak_id_fk[index] >= 0).sum())
        columns: dict[str, Any] = {
            "index": index,
            "firing_count": count,
            "maximum": float(self.maximum_f[index]),
            "token_entropy": max(0.0, float(self._entropy_f[index])),
            "n_tokens_seen": int(self._n_seen_f[index]),
            "band_counts": (of["band_fb"] * count).tolist(),
            "histogram": np.rint(of["share_fb"] * count).astype(int).tolist(),
            "logit_low": low,
            "logit_high": high,
            "logit_deviation": deviation,
            "logit_skewness": skewness,
            "logit_kurtosis": kurtosis,
            "logit_histogram": [number for number in of["logit_count_fk"].tolist() if number >= 0],
            "peak_token_ids": self._peak_id_fk[index, :n_peaks].tolist(),
            "peak_token_counts": self._peak_count_fk[index, :n_peaks].tolist(),
            "peak_token_shares": self._peak_share_fk[index, :n_peaks].tolist(),
        }
        for name, mean in zip(("total", "total_2", "total_3", "total_4"), of["power_fm"].tolist(), strict=True):
            columns[name] = mean * count
        for column, name in (("promoted", "pos"), ("suppressed", "neg")):
            n = int((of[f"{name}_id_fk"] >= 0).sum())
            columns[f"{column}_ids"] = [strings[string] for string in of[f"{name}_id_fk"][:n].tolist()]
            columns[f"{column}_values"] = of[f"{name}_value_fk"][:n].tolist()
        n = int((of["near_id_fk"] >= 0).sum())
        columns["decoder_neighbour_ids"] = of["near_id_fk"][:n].tolist()
        columns["decoder_neighbour_cosines"] = of["near_value_fk"][:n].tolist()
        return columns

    def _raise_maxima(self, shards: Sequence[Shard]) -> None:
        """Take the highest activation of the examples where the features' lines say less."""
        for shard in shards:
            for number in range(shard.facts.get("parts", 0)):
                feature_x, highest_x = shard.array(f"{number}.feature_x"), shard.array(f"{number}.highest_x")
                np.maximum.at(self.maximum_f, feature_x, highest_x)


_ARRAYS = (
    *("index_f", "share_fb", "band_fb", "power_fm", "logit_fm", "logit_count_fk", "pos_id_fk", "pos_value_fk"),
    *("neg_id_fk", "neg_value_fk", "near_id_fk", "near_value_fk"),
)


def _from_facet(own: Mapping[str, Any], tokens: Mapping[str, Token]) -> dict[str, Any]:
    """Return the columns that another Facet wrote, with the ids that its tokens have here."""
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
