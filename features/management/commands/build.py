"""Build dashboards."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from features import estimates, services
from features.management.addresses import named_dictionaries
from features.management.facet_command import FacetCommand
from features.management.inline import carry_out_here
from features.queue import enqueue_run
from features.services.runs import N_TOKENS


class Command(FacetCommand):
    help = "Build the dashboards of dictionaries of one model, in one pass over a corpus."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("source", nargs="+", help="MODEL/SOURCE, or MODEL for all its dictionaries")
        parser.add_argument("--corpus", default="", help="a corpus (default: the only one there is)")
        parser.add_argument("--tokens", type=int, default=N_TOKENS, help=f"tokens to read (default: {N_TOKENS:,})")
        parser.add_argument("--context-size", type=int, default=None, help="tokens in a context, BOS included")
        parser.add_argument("--memory", type=float, default=None, help="gigabytes that each worker may take")
        parser.add_argument("--dry-run", action="store_true", help="only say what it would take")
        parser.add_argument("--inline", action="store_true", help="build in this process, without a worker")

    def handle(
        self,
        *,
        source: list[str],
        corpus: str,
        tokens: int,
        context_size: int | None,
        memory: float | None,
        dry_run: bool,
        inline: bool,
        **_: Any,
    ) -> None:
        dictionaries = [dictionary for address in source for dictionary in named_dictionaries(address)]
        if dry_run:
            self._say(estimates.estimate(dictionaries=dictionaries, n_tokens=tokens))
            return
        run_id = services.runs.create_build(
            dictionaries=dictionaries,
            corpus=corpus,
            n_tokens=tokens,
            context_size=context_size,
            memory=None if memory is None else round(memory * 1e9),
        )
        if inline:
            for line in carry_out_here(run_id).log:
                self.stdout.write(line)
            return
        enqueue_run(run_id)
        self.stdout.write(f"Run {run_id} is queued: /runs/{run_id}")

    def _say(self, found: estimates.Estimate) -> None:
        time = "unknown" if found.seconds is None else f"about {found.seconds:,.0f} s"
        self.stdout.write(f"{found.n_tokens:,} tokens, {found.n_features:,} features")
        self.stdout.write(f"  Time: {time}. {found.basis}")
        self.stdout.write(
            f"  Memory of each worker: {found.memory_bytes / 1e9:.1f} GB of {found.budget_bytes / 1e9:.1f} GB"
            + ("." if found.fits else ": too little, see --memory.")
        )
        self.stdout.write(
            f"  Disk: {found.disk_bytes / 1e6:,.1f} MB stored, and {found.work_bytes / 1e6:,.1f} MB until that is done."
        )
