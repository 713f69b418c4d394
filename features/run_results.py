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

    `shards` are the parts of a build, once they are planned; lists of runs go without. `started_by` names an account,
    and is empty for a run that a command started.
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
    started_by: str = ""
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

    @property
    def seconds(self) -> float | None:
        """How long it took from its first start to its end, waits included; None while it is not over."""
        over = self.started_at and self.finished_at
        return (self.finished_at - self.started_at).total_seconds() if over else None

    @property
    def steps(self) -> tuple[tuple[str, str], ...]:
        """The phases in order, each with `done`, `now` or nothing."""
        if self.state == "done":
            return tuple((phase, "done") for phase in self.phases)
        at = self.phases.index(self.phase) if self.phase in self.phases else -1
        here = "now" if self.state in ("queued", "running") else ""
        return tuple((phase, "done" if i < at else here if i == at else "") for i, phase in enumerate(self.phases))
