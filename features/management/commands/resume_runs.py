"""Take up runs that nobody works on."""

from __future__ import annotations

from typing import Any

from features import services
from features.holds import holding_run
from features.management.facet_command import FacetCommand
from features.models import Run
from features.queue import enqueue_run


class Command(FacetCommand):
    help = "Send the workers every run that waits, and every run whose worker is gone."

    def handle(self, **_: Any) -> None:
        lost = []
        for run_id in Run.objects.filter(state=Run.State.RUNNING).values_list("id", flat=True):
            with holding_run(run_id) as nobody_does:
                if nobody_does and services.runs.requeue(run=run_id):
                    lost.append(run_id)
        waiting = list(Run.objects.filter(state=Run.State.QUEUED).order_by("id").values_list("id", flat=True))
        for run_id in waiting:
            enqueue_run(run_id)
        self.stdout.write(f"{len(waiting)} runs sent to the workers; {len(lost)} had lost theirs.")
