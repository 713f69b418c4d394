"""Adding corpora."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Protocol

from django.db import transaction

from features.models import Corpus, Document
from features.services.checks import text_of
from features.words import slugify, storable, storable_value
from inference.errors import Conflict, InvalidInput, NotFound

TEST_PERCENT = 10
_AT_ONCE = 2000


class Skipping(Protocol):
    """What knows which texts were found and are no documents (features.texts.Skips)."""

    def as_dict(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDocument:
    """A text to register; without a split, its name decides: one in ten is for tests, the same one everywhere.

    It is a file; or, where `start` is given, `field` of the line of JSON in the `n_bytes` there, with its digest.
    """

    name: str
    path: Path
    split: str = ""
    start: int | None = None
    n_bytes: int = 0
    field: str = ""
    sha256: str = ""
    metadata: Mapping[str, Any] = dataclass_field(default_factory=dict)


def add_corpus(
    *,
    name: str,
    documents: Iterable[NewDocument],
    description: str = "",
    origin: Mapping[str, Any] | None = None,
    skips: Skipping | None = None,
) -> Corpus:
    """Register a corpus of texts in the order given; adding the same again returns the corpus that is there.

    All documents are read before the transaction begins, one at a time, however many there are: it waits neither for
    files nor for a network. `skips` is asked in the end what was left out. Raises InvalidInput without documents or
    name, NotFound for a file that cannot be read, Conflict for a corpus of the same name with other documents.
    """
    name = text_of(name, what="name", limit=200)
    slug = corpus_slug(name)
    with _gathered(documents) as rows, transaction.atomic():
        known = Corpus.objects.select_for_update().filter(slug=slug).first()
        if known is not None:
            if _digest(known.documents.order_by("ordinal").iterator()) != _digest(rows):
                raise Conflict(
                    f"There is a corpus {slug!r} with other documents.",
                    "Choose another name for this one.",
                    corpus=slug,
                )
            return known
        corpus = Corpus.objects.create(
            slug=slug, name=name, description=storable(description), origin=storable_value(dict(origin or {}))
        )
        while some := list(islice(rows, _AT_ONCE)):
            for row in some:
                row.corpus = corpus
            Document.objects.bulk_create(some)
        if not corpus.documents.exists():
            raise InvalidInput(
                f"The corpus {name!r} would be empty" + (f": {skips}." if skips and str(skips) else "."),
                "Give a folder and a pattern that match some files of text.",
            )
        if skips is not None and (skipped := skips.as_dict()):
            corpus.skipped = storable_value(skipped)
            corpus.save(update_fields=["skipped"])
        return corpus


def corpus_slug(name: str) -> str:
    """Return the address that a corpus of this name has; raise InvalidInput for a name that makes none."""
    slug = slugify(name)
    if not slug or len(slug) > 80:
        raise InvalidInput(f"{name!r} makes no address.", "Use letters and digits in the name of a corpus.", name=name)
    return slug


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


@contextmanager
def _gathered(documents: Iterable[NewDocument]) -> Iterator[Iterator[Document]]:
    """Hold the rows of documents, which are read now, in a file of this machine."""
    with TemporaryFile() as file:
        for document in documents:
            pickle.dump(_read(document), file)
        n_bytes = file.tell()
        file.seek(0)
        yield (_row(ordinal, document) for ordinal, document in enumerate(_loaded(file, n_bytes)))


def _loaded(file: Any, n_bytes: int) -> Iterator[NewDocument]:
    while file.tell() < n_bytes:
        yield pickle.load(file)


def _read(document: NewDocument) -> NewDocument:
    """Return a document with its whole path, its size and its digest; raise NotFound where its file cannot be read."""
    path = Path(document.path).resolve()
    if document.start is not None:
        return replace(document, path=path)
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return replace(document, path=path, sha256=digest, n_bytes=path.stat().st_size)
    except OSError as error:
        raise NotFound(
            f"{path} cannot be read: {error.strerror}.", "Leave it out, or make it readable.", path=str(path)
        ) from error


def _row(ordinal: int, document: NewDocument) -> Document:
    return Document(
        ordinal=ordinal,
        name=storable(document.name),
        path=str(document.path),
        split=document.split or split_by_name(document.name),
        sha256=document.sha256,
        n_bytes=document.n_bytes,
        start=document.start,
        field=document.field,
        metadata=storable_value(dict(document.metadata)),
    )


def _digest(rows: Iterable[Document]) -> str:
    """Return a digest of what documents are."""
    found = hashlib.sha256()
    for row in rows:
        found.update("\0".join((row.name, row.path, row.split, row.sha256, str(row.start), row.field)).encode())
    return found.hexdigest()
