"""Register a corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from features import services
from features.looks.corpora import CorpusLook, look_at_corpus
from features.management.facet_command import FacetCommand
from features.texts import Skips, documents_of
from features.texts.datasets import LIMIT


class Command(FacetCommand):
    help = "Register texts as a corpus: a folder, a file of text, JSONL or Parquet, or a dataset of a hub."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name")
        parser.add_argument("place", help="a folder, a file, or hub:OWNER/NAME[@REVISION]")
        parser.add_argument("--glob", default="", help="which files, relative to the folder (default: all but hidden)")
        parser.add_argument(
            "--field", default="text", help="the field of the text in JSONL and Parquet (default: text)"
        )
        parser.add_argument("--limit", type=int, default=LIMIT, help=f"documents of a dataset (default: {LIMIT:,})")
        parser.add_argument("--description", default="")
        parser.add_argument("--dry-run", action="store_true", help="only say how much text there is")

    def handle(
        self,
        *,
        name: str,
        place: str,
        glob: str,
        field: str,
        limit: int,
        description: str,
        dry_run: bool,
        **_: Any,
    ) -> None:
        if dry_run:
            self._say(look_at_corpus(place, glob=glob, field=field, name=name, limit=limit))
            return
        skips = Skips()
        documents = documents_of(
            place, skips=skips, glob=glob, field=field, limit=limit, copies_at=Path(settings.FACET_CORPORA)
        )
        origin = {"place": place, "glob": glob, "field": field}
        corpus = services.corpora.add_corpus(
            name=name, documents=documents, description=description, origin=origin, skips=skips
        )
        self.stdout.write(f"{corpus.slug}: {corpus.documents.count():,} documents")
        if skips.counts:
            self.stdout.write(f"  Left out: {skips}.")
            for entry in skips.first[:5]:
                self.stdout.write(f"    {entry['name']}: {entry['reason']}")
        self.stdout.write(f"  Next: python manage.py build MODEL/SOURCE --corpus {corpus.slug}")

    def _say(self, look: CorpusLook) -> None:
        self.stdout.write(f"{look.path}: {look.n_files:,} files, {look.n_bytes / 1e6:,.1f} MB")
        if look.n_documents is None:
            self.stdout.write("  How much text they hold is not known.")
            return
        self.stdout.write(
            f"  About {look.n_documents:,} documents, {look.n_text_bytes / 1e6:,.1f} MB of text,"
            f" {look.n_tokens:,} tokens at four bytes each."
        )
        if look.n_copied_bytes is not None:
            self.stdout.write(f"  Their copy takes {look.n_copied_bytes / 1e6:,.1f} MB.")
