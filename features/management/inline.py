"""Carrying a run out in the process of a command, with its progress on the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from features import selectors, services
from features.holds import at_work
from features.run_results import RunCard
from inference.errors import Conflict, FacetError


def carry_out_here(run_id: int) -> RunCard:
    """Hold a run and carry it out; return it once it is done. Raises FacetError where it ends otherwise."""
    from features.jobs import work

    columns = (TextColumn("{task.description:8}"), BarColumn(), TextColumn("{task.fields[facts]}"), TimeElapsedColumn())
    with Bars(*columns, console=Console(stderr=True)) as bars, at_work(run_id) as held:
        if not held:
            raise Conflict(f"Run {run_id} is being worked on by another process.", f"Watch it: /runs/{run_id}.")
        tasks: dict[str, Any] = {}

        def watch(progress: Any, rate: float | None) -> None:
            if progress.phase not in tasks:
                tasks[progress.phase] = bars.add_task(progress.phase, facts="")
            text = f"{progress.done:,} of {progress.total:,} {progress.unit}"
            text += f", {rate:,.0f} a second" if rate else ""
            bars.update(tasks[progress.phase], completed=progress.done, total=progress.total, facts=text)

        try:
            work(run_id, watch=watch)
        except KeyboardInterrupt:
            services.runs.stop(run=run_id)
            raise
    card = selectors.run(run_id)
    if card.state != "done":
        raise FacetError(card.error or f"Run {run_id} was {card.state}.", card.remedy or "Resume it from its page.")
    return card
