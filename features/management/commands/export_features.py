"""Write the dashboards of dictionaries to files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from features.exports.neuronpedia import CREATOR_ID, write_neuronpedia
from features.exports.parquet import write_parquet
from features.management.addresses import named_dictionaries
from features.management.facet_command import FacetCommand
from features.models import Dictionary


class Command(FacetCommand):
    help = "Write the dashboards of dictionaries in Neuronpedia's export layout, or as Parquet."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("source", nargs="+", help="MODEL/SOURCE, or MODEL for all its dictionaries that are built")
        parser.add_argument("--to", required=True, help="the folder to write to; MODEL/SOURCE/ is made in it")
        parser.add_argument("--format", choices=["neuronpedia", "parquet"], default="neuronpedia", help="what to write")
        parser.add_argument("--creator", default=CREATOR_ID, help="the account that shall own it in Neuronpedia")

    def handle(self, *, source: list[str], to: str, format: str, creator: str, **_: Any) -> None:
        ids = [dictionary for address in source for dictionary in named_dictionaries(address)]
        rows = Dictionary.objects.filter(id__in=ids).select_related("model").order_by("model__slug", "layer", "source")
        if any("/" not in address.strip("/") for address in source):
            rows = rows.built()
        for row in rows:
            if format == "parquet":
                written = write_parquet(row.model.slug, row.source, Path(to))
            else:
                written = write_neuronpedia(row.model.slug, row.source, Path(to), creator_id=creator)
            self.stdout.write(str(written))
