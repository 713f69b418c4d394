"""Adding corpora."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from django.db import transaction

from features.models import Corpus, Document
from features.services.checks import text_of
from features.words import slugify, storable
from inference.errors import Conflict, InvalidInput, NotFound

TEST_PERCENT = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDocument:
    """A file to register; without a split, its name decides: one in ten is for tests, the same one everywhere."""

    name: str
    path: Path
    split: str = ""


@transaction.atomic
def add_corpus(*, name: str, documents: Iterable[NewDocument], slug: str = "", description: str = "") -> Corpus:
    """Register a corpus of files in the order given; adding the same files again returns the corpus that is there.

    Raises InvalidInput without documents or name, NotFound for a file that cannot be read, Conflict for a corpus of
    the same name with other documents.
    """
    name = text_of(name, what="name", limit=200)
    slug = slug or slugify(name)
    if not slug or slug != slugify(slug) or len(slug) > 80:
        raise InvalidInput(f"{name!r} makes no address.", "Use letters and digits in the name of a corpus.", name=name)
    rows = [_row(ordinal, document) for ordinal, document in enumerate(documents)]
    if not rows:
        raise InvalidInput(f"The corpus {name!r} would be empty.", "Give a folder and a pattern that match some files.")
    known = Corpus.objects.select_for_update().filter(slug=slug).first()
    if known is not None:
        old = list(known.documents.order_by("ordinal").values_list("name", "path", "split", "sha256"))
        if old != [(row.name, row.path, row.split, row.sha256) for row in rows]:
            raise Conflict(
                f"There is a corpus {slug!r} with other documents.", "Choose another name for this one.", corpus=slug
            )
        return known
    corpus = Corpus.objects.create(slug=slug, name=name, description=storable(description))
    for row in rows:
        row.corpus = corpus
    Document.objects.bulk_create(rows, batch_size=2000)
    return corpus


def split_by_name(name: str) -> str:
    """Return the split of a document from a hash of its name."""
    number = int.from_bytes(hashlib.blake2b(name.encode(errors="surrogateescape"), digest_size=8).digest(), "big")
    return "test" if number % 100 < TEST_PERCENT else "train"


def chosen_corpus(slug: str) -> Corpus:
    """Return the corpus of a slug; without one, the only corpus there is. Raises NotFound and InvalidInput."""
    corpora = list(Corpus.objects.filter(slug=slug) if slug else Corpus.objects.all()[:2])
    if len(corpora) == 1:
        return corpora[0]
    known = list(Corpus.objects.values_list("slug", flat=True)[:20])
    if slug:
        raise NotFound(
            f"There is no corpus {slug!r}.", f"Choose one of: {', '.join(known) or 'none yet'}.", corpus=slug
        )
    if known:
        raise InvalidInput("There are several corpora.", f"Choose one of: {', '.join(known)}.", corpora=known)
    raise NotFound("There is no corpus yet.", "Add one: python manage.py add_corpus NAME FOLDER --glob PATTERN.")


def _row(ordinal: int, document: NewDocument) -> Document:
    path = Path(document.path).resolve()
    try:
        data = path.read_bytes()
    except OSError as error:
        raise NotFound(
            f"{path} cannot be read: {error.strerror}.", "Leave it out, or make it readable.", path=str(path)
        ) from error
    return Document(
        ordinal=ordinal,
        name=storable(document.name),
        path=str(path),
        split=document.split or split_by_name(document.name),
        sha256=hashlib.sha256(data).hexdigest(),
        n_bytes=len(data),
    )
