"""Register a dictionary of a model."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from features import services
from features.management.facet_command import FacetCommand


class Command(FacetCommand):
    help = "Register a dictionary (SAE or transcoder) from its folder; its width must fit the model."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("path", help="a folder with cfg.json and weights, as SAELens writes it")
        parser.add_argument("--model", required=True, help="the model's name in addresses")
        parser.add_argument("--source", default="", help="the dictionary's id in the model, such as 8-res-jb")
        parser.add_argument("--release", default="", help="what it was published with")

    def handle(self, *, path: str, model: str, source: str, release: str, **_: Any) -> None:
        row = services.dictionaries.add_dictionary(path=path, model=model, source=source, release=release)
        out = "" if row.hook_point_out == row.hook_point else f" to {row.hook_point_out}"
        self.stdout.write(
            f"{model}/{row.source}: {row.architecture}, {row.n_features:,} features at {row.hook_point}{out}"
        )
        self.stdout.write(f"  Next: python manage.py build {model}/{row.source} --corpus NAME")
