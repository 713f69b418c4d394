"""What pages and the API show of the parts of a shared run, and of the workers that share it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardFailure:
    """What a worker ran into at a shard."""

    worker: str
    error: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardCard:
    """One shard: `made`, `in work`, `waiting`, or `failed`, which is waiting after failures, or given up.

    `worker` is who is at it or made it, empty for one that an earlier run had made; `attempts` counts the failed too.
    """

    number: int
    state: str
    n_tokens: int
    done: int
    worker: str
    attempts: int
    failures: tuple[ShardFailure, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPart:
    """What one worker did for a run: shards and tokens that it made, shards that it is at, and failures."""

    name: str
    made: int
    tokens: int
    at_work_on: tuple[int, ...]
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shards:
    """The shards of a run, the first of them where there are very many; the counts are of all."""

    shards: tuple[ShardCard, ...]
    workers: tuple[WorkerPart, ...]
    n_shards: int
    made: int
    in_work: int
    waiting: int
    failed: int

    @property
    def failures(self) -> tuple[tuple[ShardCard, ShardFailure], ...]:
        """Everything that went wrong, in order of time."""
        every = [(shard, failure) for shard in self.shards for failure in shard.failures]
        return tuple(sorted(every, key=lambda pair: pair[1].at))
