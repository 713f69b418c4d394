"""Runs, as lists and pages show them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from django.utils import timezone

from features.models import Run, RunLine, Shard
from features.run_results import RunCard, ShardCard, ShardFailure, Shards, WorkerPart
from inference.errors import NotFound

LOG_LINES = 200
LISTED_SHARDS = 2000
# A worker renews its heartbeat at every report of progress, seconds apart.
STALE = timedelta(seconds=60)


def runs(*, limit: int = 50) -> tuple[RunCard, ...]:
    """Return the newest runs, without their logs. One query."""
    return tuple(_card(row, ()) for row in Run.objects.select_related("created_by")[:limit])


def run(id: int) -> RunCard:
    """Return a run with the last lines of its log, and its shards; raise NotFound. Three queries."""
    row = Run.objects.filter(id=id).select_related("created_by").first()
    if row is None:
        raise NotFound(f"There is no run {id}.", "Choose one from the list.", suggestions=["/runs"], run=id)
    lines = RunLine.objects.filter(run=row).order_by("-id").values_list("text", flat=True)[:LOG_LINES]
    return _card(row, tuple(reversed(lines)), shards=_shards(row))


def is_stale(row: Run) -> bool:
    """Tell whether a running run has lost its worker."""
    if row.state != Run.State.RUNNING:
        return False
    return row.heartbeat_at is None or timezone.now() - row.heartbeat_at > STALE


def _card(row: Run, log: tuple[str, ...], *, shards: Shards | None = None) -> RunCard:
    running = row.state == Run.State.RUNNING
    left = row.total - row.done
    return RunCard(
        id=row.id,
        kind=row.kind,
        title=row.title,
        state=row.state,
        phase=row.phase,
        phases=tuple(row.phases),
        done=row.done,
        total=row.total,
        unit=row.unit,
        rate=row.rate,
        eta_seconds=left / row.rate if running and row.rate and left >= 0 else None,
        started_at=row.started_at,
        finished_at=row.finished_at,
        created_at=row.created_at,
        started_by=row.created_by.get_username() if row.created_by else "",
        error=row.error,
        remedy=row.remedy,
        log=log,
        links=tuple(row.result.get("links", ())),
        can_cancel=row.state in Run.ACTIVE and not row.cancel_requested,
        can_resume=row.state in (Run.State.FAILED, Run.State.CANCELLED) or is_stale(row),
        shards=shards,
    )


def _shards(run: Run) -> Shards | None:
    """Return the shards of a run that has some. One query."""
    columns = ("number", "state", "n_tokens", "done", "worker", "failures")
    rows = Shard.objects.filter(run=run).order_by("number").values(*columns)
    if not rows:
        return None
    cards = [_shard(row, active=run.state in Run.ACTIVE) for row in rows]
    states = Counter(card.state for card in cards)
    return Shards(
        # Those with something to tell are never left out.
        shards=tuple(card for card in cards if card.number < LISTED_SHARDS or card.state in ("in work", "failed")),
        workers=_workers(cards),
        n_shards=len(cards),
        made=states["made"],
        in_work=states["in work"],
        waiting=states["waiting"],
        failed=states["failed"],
    )


def _shard(row: dict[str, Any], *, active: bool) -> ShardCard:
    failures = tuple(
        ShardFailure(worker=failure["worker"], error=failure["error"], at=datetime.fromtimestamp(failure["at"], UTC))
        for failure in row["failures"]
    )
    made, taken = row["state"] == Shard.State.DONE, row["state"] == Shard.State.RUNNING and active
    state = "made" if made else "in work" if taken else "failed" if failures else "waiting"
    worker = row["worker"] if made or taken else ""
    return ShardCard(
        number=row["number"],
        state=state,
        n_tokens=row["n_tokens"],
        done=row["done"] if made or taken else 0,
        worker=worker,
        attempts=len(failures) + bool(worker),
        failures=failures,
    )


def _workers(cards: Sequence[ShardCard]) -> tuple[WorkerPart, ...]:
    names = {card.worker for card in cards} | {failure.worker for card in cards for failure in card.failures}
    return tuple(
        WorkerPart(
            name=name,
            made=sum(card.state == "made" and card.worker == name for card in cards),
            tokens=sum(card.done for card in cards if card.worker == name),
            at_work_on=tuple(card.number for card in cards if card.state == "in work" and card.worker == name),
            failures=sum(failure.worker == name for card in cards for failure in card.failures),
        )
        for name in sorted(names - {""})
    )
