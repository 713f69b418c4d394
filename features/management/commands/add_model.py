"""Register a language model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from features import services
from features.management.facet_command import FacetCommand
from features.words import slugify


class Command(FacetCommand):
    help = "Register a language model from a folder in Hugging Face layout, or from a hub by id."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("path", help="a folder, or a hub id")
        parser.add_argument("--name", default="", help="its name in addresses (default: that of the folder)")
        parser.add_argument("--revision", default=None, help="a commit of the hub")
        parser.add_argument("--description", default="")

    def handle(self, *, path: str, name: str, revision: str | None, description: str, **_: Any) -> None:
        from features.loading import read_model

        slug = services.models.checked_slug(name or slugify(Path(path).name))
        facts = read_model(path, revision=revision)
        model = services.models.add_model(facts=facts, slug=slug, description=description)
        self.stdout.write(
            f"{model.slug}: {model.family}, {model.n_layers} layers, width {model.d_model},"
            f" context {model.context_size}, vocabulary {model.d_vocab:,}"
        )
        self.stdout.write(f"  Next: python manage.py add_dictionary FOLDER --model {model.slug}")
