"""How a pass shares out the memory that it may use. What it decides changes no digit of a result. Free of torch."""

from __future__ import annotations

import resource
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from inference.errors import InvalidInput

if TYPE_CHECKING:
    from inference.dictionaries.dictionary import Dictionary

DEFAULT_BYTES = 4 * 1024**3
SHARD_TOKENS = 131_072
# What one dictionary's features take at once while a shard is encoded: sums, and candidates that compete. The most that
# `python -m benchmarks.memory` found was 3,700 bytes more for each feature, at 32 activations a token; features that
# fire everywhere have several times as many candidates.
SHARD_FEATURE_BYTES = 20_000
# And what its activations take, whatever their number: events that gather, pairs, masses, and the steps of two threads.
SHARD_BYTES = 550_000_000
# What a shard takes on disk for each of its tokens, of each dictionary, and for each feature; and a token's contexts.
# Measured of 2,048 to 24,576 features, 32 of which fire at a token.
DISK_TOKEN_BYTES, DISK_FEATURE_BYTES, DISK_CONTEXT_BYTES = 230, 1200, 16
# What the rows of shards may take when they are added up: more would save little time.
LEAST_MERGE_BYTES, MOST_MERGE_BYTES = 64_000_000, 200_000_000


class MemoryTooSmall(InvalidInput):
    """A budget of memory in which a pass cannot be made."""

    code = "memory-too-small"


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Bytes that the whole process may take; `base` is what it took before the pass, weights included."""

    total: int
    base: int

    @classmethod
    def of(cls, total: int) -> Budget:
        """Return a budget for this process, whose model and dictionaries are loaded."""
        return cls(total=total, base=resident_bytes())

    def groups(self, n_features: Mapping[str, int]) -> list[list[str]]:
        """Return which dictionaries go through a shard together: as many as fit. Raises MemoryTooSmall."""
        room = self.total - self.base
        groups: list[list[str]] = []
        taken = 0
        for source, count in n_features.items():
            wanted = shard_bytes(count)
            if wanted > room:
                raise MemoryTooSmall(
                    f"{source} has {count:,} features: a build needs {(self.base + wanted) / 1e9:.1f} GB, and may use"
                    f" {self.total / 1e9:.1f} GB.",
                    "Allow more memory (--memory, FACET_BUILD_MEMORY).",
                    source=source,
                    needed=self.base + wanted,
                )
            if groups and taken + wanted <= room:
                groups[-1].append(source)
                taken += wanted
            else:
                groups.append([source])
                taken = wanted
        return groups

    @property
    def merge_bytes(self) -> int:
        """Bytes for the rows of shards that are added up at once."""
        return max(LEAST_MERGE_BYTES, min(MOST_MERGE_BYTES, (self.total - self.base) // 3))


def shard_bytes(n_features: int) -> int:
    """Return what one dictionary takes while a shard is encoded."""
    return SHARD_BYTES + SHARD_FEATURE_BYTES * n_features


def disk_bytes(n_features: Sequence[int], n_tokens: int, shard_tokens: int = SHARD_TOKENS) -> int:
    """Return about what the contexts and shards of a build of dictionaries take on disk until it is stored."""
    n_shards = -(-n_tokens // shard_tokens)
    of_shards = sum(DISK_TOKEN_BYTES * n_tokens + DISK_FEATURE_BYTES * n_shards * count for count in n_features)
    return DISK_CONTEXT_BYTES * n_tokens + of_shards


def features_of(dictionaries: Mapping[str, Dictionary]) -> dict[str, int]:
    """Return how many features each dictionary has."""
    return {source: dictionary.n_features for source, dictionary in dictionaries.items()}


def resident_bytes() -> int:
    """Return the memory that this process holds now, without files that are merely mapped."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return peak_bytes()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))


def peak_bytes() -> int:
    """Return the most memory that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
