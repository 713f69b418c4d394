"""Make, or remove, a synthetic deployment."""

from __future__ import annotations

import os
import time
from typing import Any

from django.core.management.base import CommandParser

from features.management.facet_command import FacetCommand
from features.synthetic import deployment


class Command(FacetCommand):
    help = "Make up a deployment of a given size, to measure pages, search and storage; --remove removes it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--features", type=int, default=1_000_000, help="features (default: 1,000,000)")
        parser.add_argument("--examples", type=int, default=20_000_000, help="examples (default: 20,000,000)")
        parser.add_argument("--width", type=int, default=16_384, help="features of a dictionary (default: 16,384)")
        parser.add_argument("--models", type=int, default=1, help="models that share the dictionaries (default: 1)")
        parser.add_argument("--explained", type=float, default=1.0, help="share of features explained (default: 1)")
        parser.add_argument("--seed", type=int, default=0, help="the same seed makes the same rows (default: 0)")
        parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="default: one a core")
        parser.add_argument("--remove", action="store_true", help="remove the synthetic deployment")

    def handle(
        self,
        *,
        features: int,
        examples: int,
        width: int,
        models: int,
        explained: float,
        seed: int,
        processes: int,
        remove: bool,
        **_: Any,
    ) -> None:
        started = time.perf_counter()
        if remove:
            count = deployment.remove()
            self.stdout.write(f"{count} synthetic dictionaries removed in {time.perf_counter() - started:.1f} s")
            return
        plan = deployment.Plan(
            n_features=features, n_examples=examples, n_models=models, width=width, explained=explained, seed=seed
        )
        for line in deployment.described(plan):
            self.stdout.write(line)

        def say(finished: int, total: int) -> None:
            seconds = time.perf_counter() - started
            left = f", {seconds / finished * (total - finished):.0f} s left" if finished else ""
            self.stdout.write(f"{finished} of {total} dictionaries after {seconds:.0f} s{left}")

        deployment.make(plan, processes=max(1, processes), done=say)
        seconds = time.perf_counter() - started
        self.stdout.write(f"Done in {seconds:.1f} s: {features / seconds:,.0f} features a second")
