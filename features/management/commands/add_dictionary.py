"""Register a dictionary of a model, or say what lies at a path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from features import services
from features.looks.dictionaries import matching
from features.management.facet_command import FacetCommand
from inference.dictionaries import DictionaryConfig, local_path, read_config
from inference.errors import InvalidInput


class Command(FacetCommand):
    help = "Register a dictionary (SAE or transcoder) in any layout that Facet reads; its width must fit the model."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "path",
            help="a folder, a file, either with #part, a hub id (owner/name, owner/name@commit:folder), or "
            "neurons:LAYER or experts:LAYER, the model's own",
        )
        parser.add_argument("--model", default="", help="the model's name in addresses")
        parser.add_argument("--source", default="", help="the dictionary's id in the model, such as 8-res-jb")
        parser.add_argument("--release", default="", help="what it was published with")
        parser.add_argument("--match", default="", help="add every dictionary below the path that matches a pattern")
        parser.add_argument("--dry-run", action="store_true", help="only say what it is")

    def handle(self, *, path: str, model: str, source: str, release: str, match: str, dry_run: bool, **_: Any) -> None:
        if not (model or dry_run):
            raise InvalidInput("Nothing says which model it is for.", "Name it with --model, or look with --dry-run.")
        here = Path(services.dictionaries.place_for(local_path(path), model=model))
        for found in matching(here, match) if match else [here]:
            if dry_run:
                self._describe(read_config(found))
            else:
                self._add(found, model=model, source=source, release=release)

    def _add(self, path: Path, *, model: str, source: str, release: str) -> None:
        row = services.dictionaries.add_dictionary(path=path, model=model, source=source, release=release)
        out = "" if row.hook_point_out == row.hook_point else f" to {row.hook_point_out}"
        self.stdout.write(
            f"{model}/{row.source}: {row.architecture}, {row.n_features:,} features at {row.hook_point}{out}"
        )
        self.stdout.write(f"  Next: python manage.py build {model}/{row.source} --corpus NAME")

    def _describe(self, config: DictionaryConfig) -> None:
        widths = f"{config.d_in:,} wide" if config.d_in == config.d_out else f"{config.d_in:,} to {config.d_out:,} wide"
        facts = {
            "layout": config.format,
            "architecture": config.architecture + (f", k {config.k}" if config.k else ""),
            "features": f"{config.n_features:,}, {widths}",
            "groups": ", ".join(f"{size:,}" for size in config.group_sizes),
            "reads": config.hook_in,
            "writes": config.hook_out,
            "model": config.model_name or "not said",
            "context": str(config.context_size or "not said"),
            "stored as": config.dtype,
            "sha256": config.sha256,
        }
        self.stdout.write(config.path)
        for name, value in facts.items():
            if value:
                self.stdout.write(f"  {name:<13} {value}")
        for sentence in config.evidence:
            self.stdout.write(f"  - {sentence}")
