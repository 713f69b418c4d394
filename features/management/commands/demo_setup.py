"""Register the demonstration."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from features.demo import set_up
from features.management.facet_command import FacetCommand
from features.queue import enqueue_run


class Command(FacetCommand):
    help = "Register the bundled model, its dictionaries, a corpus and an account, and queue the build of dashboards."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print the facts as one line of JSON")

    def handle(self, *, json: bool, **_: Any) -> None:
        facts = set_up(settings.BASE_DIR / "demo")
        if facts.run is not None:
            enqueue_run(facts.run)
        if json:
            self.stdout.write(_as_json(asdict(facts)))
            return
        if facts.password:
            self.stdout.write(f"Account: {facts.account}   Password: {facts.password}   (shown this once)")
        if facts.run is not None:
            self.stdout.write(f"Run {facts.run} builds the dashboards of {', '.join(facts.sources)}.")


def _as_json(facts: dict[str, Any]) -> str:
    return json.dumps(facts)
