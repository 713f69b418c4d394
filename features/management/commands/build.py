"""Build dashboards."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from features import selectors, services
from features.holds import holding_run
from features.management.addresses import named_dictionaries
from features.management.facet_command import FacetCommand
from features.queue import enqueue_run
from features.services.runs import N_TOKENS
from inference.errors import Conflict, FacetError


class Command(FacetCommand):
    help = "Build the dashboards of dictionaries of one model, in one pass over a corpus."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("source", nargs="+", help="MODEL/SOURCE, or MODEL for all its dictionaries")
        parser.add_argument("--corpus", default="", help="a corpus (default: the only one there is)")
        parser.add_argument("--tokens", type=int, default=N_TOKENS, help=f"tokens to read (default: {N_TOKENS:,})")
        parser.add_argument("--context-size", type=int, default=None, help="tokens in a context, BOS included")
        parser.add_argument("--inline", action="store_true", help="build in this process, without a worker")

    def handle(
        self, *, source: list[str], corpus: str, tokens: int, context_size: int | None, inline: bool, **_: Any
    ) -> None:
        dictionaries = [dictionary for address in source for dictionary in named_dictionaries(address)]
        run_id = services.runs.create_build(
            dictionaries=dictionaries, corpus=corpus, n_tokens=tokens, context_size=context_size
        )
        if inline:
            self._inline(run_id)
            return
        enqueue_run(run_id)
        self.stdout.write(f"Run {run_id} is queued: /runs/{run_id}")

    def _inline(self, run_id: int) -> None:
        from features.builds import run_build

        columns = (
            TextColumn("{task.description:8}"),
            BarColumn(),
            TextColumn("{task.fields[facts]}"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=Console(stderr=True)) as bars, holding_run(run_id) as held:
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
                run_build(run_id, watch=watch)
            except KeyboardInterrupt:
                services.runs.stop(run=run_id)
                raise
        card = selectors.run(run_id)
        if card.state != "done":
            raise FacetError(card.error or f"Run {run_id} was {card.state}.", card.remedy or "Resume it from its page.")
        for line in card.log:
            self.stdout.write(line)
