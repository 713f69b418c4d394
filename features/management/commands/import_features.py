"""Import dashboards from files."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from features import services
from features.management.facet_command import FacetCommand
from features.management.inline import carry_out_here
from features.queue import enqueue_run


class Command(FacetCommand):
    help = "Import dashboards in Neuronpedia's export layout, or SAEDashboard's batches, from a folder, archive or URL."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("place", nargs="+", help="a folder, a tar or zip archive, or a URL of one")
        parser.add_argument("--model", default="", help="their model (default: what the files say)")
        parser.add_argument("--source", default="", help="import this source alone, such as 6-res-jb")
        parser.add_argument("--inline", action="store_true", help="import in this process, without a worker")

    def handle(self, *, place: list[str], model: str, source: str, inline: bool, **_: Any) -> None:
        for one in place:
            run_id = services.imports.create_import(place=one, model=model, source=source)
            if inline:
                for line in carry_out_here(run_id).log:
                    self.stdout.write(line)
            else:
                enqueue_run(run_id)
                self.stdout.write(f"Run {run_id} is queued: /runs/{run_id}")
