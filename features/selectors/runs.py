"""Runs, as lists and pages show them."""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone

from features.models import Run, RunLine
from features.results import RunCard
from inference.errors import NotFound

LOG_LINES = 200
# A worker renews its heartbeat at every report of progress, seconds apart.
STALE = timedelta(seconds=60)


def runs(*, limit: int = 50) -> tuple[RunCard, ...]:
    """Return the newest runs, without their logs. One query."""
    return tuple(_card(row, ()) for row in Run.objects.all()[:limit])


def run(id: int) -> RunCard:
    """Return a run with the last lines of its log; raise NotFound. Two queries."""
    row = Run.objects.filter(id=id).first()
    if row is None:
        raise NotFound(f"There is no run {id}.", "Choose one from the list.", suggestions=["/runs"], run=id)
    lines = RunLine.objects.filter(run=row).order_by("-id").values_list("text", flat=True)[:LOG_LINES]
    return _card(row, tuple(reversed(lines)))


def is_stale(row: Run) -> bool:
    """Tell whether a running run has lost its worker."""
    if row.state != Run.State.RUNNING:
        return False
    return row.heartbeat_at is None or timezone.now() - row.heartbeat_at > STALE


def _card(row: Run, log: tuple[str, ...]) -> RunCard:
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
        error=row.error,
        remedy=row.remedy,
        log=log,
        links=tuple(row.result.get("links", ())),
        can_cancel=row.state in Run.ACTIVE and not row.cancel_requested,
        can_resume=row.state in (Run.State.FAILED, Run.State.CANCELLED) or is_stale(row),
    )
