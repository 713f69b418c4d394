"""The shards of a build: planned, taken up, reported, finished, and failed until somebody has to be told.

Who takes a shard up holds its lock (features.holds), so a shard that is marked as running and can be taken has lost
its worker.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from django.db import transaction
from django.db.models import F, Sum
from django.utils import timezone

from features.models import Run, Shard
from features.words import storable
from inference.errors import FacetError

# A shard that so many workers failed to make, or died over, ends its run.
ATTEMPTS = 3
# How long a shard that one worker failed to make is left to others.
LEFT_SECONDS = 60.0


class ShardFailed(FacetError):
    """A shard that nobody could make."""

    code = "shard-failed"


@transaction.atomic
def plan(*, run: int, fingerprint: str, n_tokens: Sequence[int], made: Collection[int]) -> None:
    """Write down the shards of a run by their tokens, those that are made already as done.

    Where they are planned for the same fingerprint, what workers failed at is kept.
    """
    row = Run.objects.select_for_update().get(id=run)
    shards = Shard.objects.filter(run=run)
    if row.params.get("fingerprint") != fingerprint or shards.count() != len(n_tokens):
        shards.delete()
        rows = [Shard(run=row, number=number, n_tokens=count) for number, count in enumerate(n_tokens)]
        Shard.objects.bulk_create(rows, batch_size=2000)
        row.params = row.params | {"fingerprint": fingerprint}
        row.save(update_fields=["params"])
    shards.filter(number__in=made).update(state=Shard.State.DONE, done=F("n_tokens"))
    shards.filter(state=Shard.State.DONE).exclude(number__in=made).update(state=Shard.State.WAITING, done=0)


def fingerprint(run: int) -> str:
    """Return what a run's shards were planned for, or nothing."""
    params = Run.objects.filter(id=run).values_list("params", flat=True).first() or {}
    return params.get("fingerprint", "") if Shard.objects.filter(run=run).exists() else ""


def open_shards(run: int) -> list[Shard]:
    """Return the shards that are not done, those that failed least first."""
    rows = Shard.objects.filter(run=run).exclude(state=Shard.State.DONE)
    return sorted(rows, key=lambda row: (len(row.failures), row.number))


def all_done(run: int) -> bool:
    """Tell whether a planned run has no shard left to make."""
    rows = Shard.objects.filter(run=run)
    return rows.exists() and not rows.exclude(state=Shard.State.DONE).exists()


def is_left(shard: Shard, worker: str, workers: Collection[str]) -> bool:
    """Tell whether a worker that failed to make a shard leaves it to others, who have not tried."""
    tried = {failure["worker"]: failure["at"] for failure in shard.failures}
    if worker not in tried or timezone.now().timestamp() - tried[worker] > LEFT_SECONDS:
        return False
    return bool(set(workers) - set(tried))


@transaction.atomic
def begin(*, run: int, number: int, worker: str) -> bool:
    """Take up a shard whose lock the worker holds; False if it is done. Raises ShardFailed if it failed too often."""
    row = Shard.objects.select_for_update().get(run=run, number=number)
    if row.state == Shard.State.DONE:
        return False
    if row.state == Shard.State.RUNNING:
        _note(row, row.worker, "The worker was lost.")
    _check(row)
    row.state, row.worker, row.done = Shard.State.RUNNING, worker, 0
    row.save()
    return True


def report(*, run: int, number: int, done: int) -> int:
    """Record how many tokens of a shard are encoded; return how many of the run are."""
    rows = Shard.objects.filter(run=run)
    rows.filter(number=number).update(done=done)
    return rows.aggregate(total=Sum("done"))["total"] or 0


@transaction.atomic
def finish(*, run: int, number: int) -> None:
    """Mark a shard as made."""
    row = Shard.objects.select_for_update().get(run=run, number=number)
    row.state, row.done = Shard.State.DONE, row.n_tokens
    row.save()


@transaction.atomic
def fail(*, run: int, number: int, worker: str, error: str) -> None:
    """Record why a worker could not make a shard, which then waits for another attempt."""
    row = Shard.objects.select_for_update().get(run=run, number=number)
    _note(row, worker, error)
    row.state, row.done = Shard.State.WAITING, 0
    row.save()


@transaction.atomic
def put_back(*, run: int, number: int) -> None:
    """Let a shard wait again that was not failed at, only left."""
    Shard.objects.filter(run=run, number=number).update(state=Shard.State.WAITING, done=0)


def forgive(*, run: int) -> None:
    """Forget the failures of a run that is resumed."""
    Shard.objects.filter(run=run).exclude(state=Shard.State.DONE).update(state=Shard.State.WAITING, failures=[], done=0)


def _note(row: Shard, worker: str, error: str) -> None:
    row.failures = [
        *row.failures,
        {"worker": worker, "error": storable(error)[:500], "at": timezone.now().timestamp()},
    ]


def _check(row: Shard) -> None:
    if len(row.failures) < ATTEMPTS:
        return
    said = "; ".join(f"{failure['worker']}: {failure['error']}" for failure in row.failures)
    raise ShardFailed(
        f"Shard {row.number + 1} failed {len(row.failures)} times. {said}"[:1500],
        "The logs of these workers have the details. Resume the run once the cause is gone: what is done is kept.",
        shard=row.number,
    )
