"""Register a corpus of files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from features import services
from features.management.facet_command import FacetCommand
from features.services.corpora import NewDocument
from inference.errors import NotFound


class Command(FacetCommand):
    help = "Register the text files of a folder as a corpus; they stay where they are."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name")
        parser.add_argument("folder", type=Path)
        parser.add_argument("--glob", default="**/*", help="which files, relative to the folder (default: all)")
        parser.add_argument("--description", default="")

    def handle(self, *, name: str, folder: Path, glob: str, description: str, **_: Any) -> None:
        if not folder.is_dir():
            raise NotFound(f"There is no folder {folder}.", "Give the folder that holds the documents.")
        files = sorted(path for path in folder.glob(glob) if path.is_file())
        documents = [NewDocument(name=path.relative_to(folder).as_posix(), path=path) for path in files]
        corpus = services.corpora.add_corpus(name=name, documents=documents, description=description)
        self.stdout.write(f"{corpus.slug}: {len(documents):,} documents")
        self.stdout.write(f"  Next: python manage.py build MODEL/SOURCE --corpus {corpus.slug}")
