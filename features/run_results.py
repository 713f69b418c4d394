"""What pages and the API show of runs: the run, its shards, and the workers that share them."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCard:
    """A long job. `rate` is in units per second, `eta_seconds` None when unknown; `links` are pages of its result.

    `shards` are the parts of a build, once they are planned; lists of runs go without.
    """

    id: int
    kind: str
    title: str
    state: str
    phase: str
    phases: tuple[str, ...]
    done: int
    total: int
    unit: str
    rate: float | None
    eta_seconds: float | None
    started_at: datetime | None
    finished_at: datetime | None
    created_at: datetime
    error: str = ""
    remedy: str = ""
    log: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    can_cancel: bool = False
    can_resume: bool = False
    shards: Shards | None = None

    @property
    def url(self) -> str:
        return f"/runs/{self.id}"
