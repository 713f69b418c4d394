"""Documents of a corpus, read from where they are."""

from __future__ import annotations

import hashlib
from pathlib import Path

from features.models import Corpus, Document
from features.results import DocumentPage
from features.words import storable
from inference.dashboards.corpus import text_of
from inference.dashboards.results import DocumentRef
from inference.errors import NotFound


def document(corpus: str, ordinal: int) -> DocumentPage:
    """Return the text of a document by lines; raise NotFound where it is unknown or gone. One query."""
    corpus = storable(corpus)
    row = Document.objects.filter(corpus__slug=corpus, ordinal=ordinal).select_related("corpus").first()
    if row is None:
        names = list(Corpus.objects.values_list("slug", flat=True))
        raise NotFound(
            f"The corpus {corpus!r} has no document {ordinal}."
            if corpus in names
            else f"There is no corpus {corpus!r}.",
            "Follow the link of a context.",
            corpus=corpus,
            ordinal=ordinal,
        )
    if not row.path:
        raise NotFound(
            f"The text of {row.name} is not here: its contexts came with imported files.",
            "Go back to the feature; its contexts are all that there is.",
            corpus=corpus,
            ordinal=ordinal,
        )
    try:
        text, digest = _read(row)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "what is there now is no such document"
        raise NotFound(
            f"{row.name} can no longer be read: {why}.",
            "The contexts that were read from it are still stored.",
            corpus=corpus,
            ordinal=ordinal,
        ) from error
    return DocumentPage(
        corpus=row.corpus.name,
        corpus_slug=row.corpus.slug,
        ordinal=row.ordinal,
        name=row.name,
        split=row.split,
        sha256=row.sha256,
        lines=tuple(storable(text).replace("\r\n", "\n").split("\n")),
        changed=digest != row.sha256,
    )


def _read(row: Document) -> tuple[str, str]:
    """Return a document's text and its digest."""
    if row.start is None:
        data = Path(row.path).read_bytes()
        return data.decode("utf-8", errors="replace"), hashlib.sha256(data).hexdigest()
    columns = ("ordinal", "name", "path", "split", "start", "n_bytes", "field")
    text = text_of(DocumentRef(**{name: getattr(row, name) for name in columns}))
    return text, hashlib.sha256(text.encode()).hexdigest()
