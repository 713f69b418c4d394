"""Corpora: the list of them, and one with its documents and what tokenizers made of it."""

from __future__ import annotations

import math

from django.db.models import Count, Q, QuerySet, Sum
from django.db.models.functions import Coalesce

from features.corpus_results import CorpusCard, CorpusPage, DocumentRow, TokenizationRow
from features.models import Corpus, Document, Run, Tokenization
from features.results import Page
from features.words import storable
from inference.errors import NotFound

PER_PAGE = 100


def corpora() -> tuple[CorpusCard, ...]:
    """Return every corpus, by name. One query."""
    return tuple(_card(row) for row in _counted(Corpus.objects.order_by("name", "slug")))


def corpus_page(slug: str, *, text: str = "", skipped: bool = False, page: int = 1) -> CorpusPage:
    """Return a corpus and one page of its documents, those whose name has a text in it; raise NotFound. Five queries.

    `skipped` keeps those that gave the last build that read the corpus no context. A page beyond the last is the last.
    """
    slug, text = storable(slug), storable(text).strip()
    row = _counted(Corpus.objects.filter(slug=slug)).first()
    if row is None:
        known = [f"/corpora/{name}" for name in Corpus.objects.values_list("slug", flat=True)[:20]]
        raise NotFound(f"There is no corpus {slug!r}.", "Choose one that exists.", suggestions=known, corpus=slug)
    run, reasons = _skipped(row)
    documents = Document.objects.filter(corpus=row).order_by("ordinal")
    if text:
        documents = documents.filter(name__icontains=text)
    if skipped:
        documents = documents.filter(ordinal__in=list(reasons))
    total = documents.count() if text or skipped else row.n_documents
    n_pages = max(1, math.ceil(total / PER_PAGE))
    number = min(max(1, page), n_pages)
    rows = documents[(number - 1) * PER_PAGE : number * PER_PAGE]
    counts: dict[str, int] = {}
    for reason in reasons.values():
        counts[reason] = counts.get(reason, 0) + 1
    return CorpusPage(
        corpus=_card(row),
        documents=Page(
            rows=tuple(_document(slug, document, reasons) for document in rows),
            number=number,
            n_pages=n_pages,
            total=total,
        ),
        tokenizations=_tokenizations(row),
        left_out=tuple(sorted(row.skipped.get("counts", {}).items())),
        left_out_first=tuple((entry["name"], entry["reason"]) for entry in row.skipped.get("first", ())),
        skipped=tuple(sorted(counts.items())),
        skipped_by=run,
    )


def _counted(rows: QuerySet[Corpus]) -> QuerySet[Corpus]:
    return rows.annotate(
        n_documents=Count("documents"),
        n_test=Count("documents", filter=Q(documents__split=Document.Split.TEST)),
        n_bytes=Coalesce(Sum("documents__n_bytes"), 0),
    )


def _card(row: Corpus) -> CorpusCard:
    return CorpusCard(
        slug=row.slug,
        name=row.name,
        description=row.description,
        n_documents=row.n_documents,
        n_test=row.n_test,
        n_bytes=row.n_bytes,
        created_at=row.created_at,
    )


def _document(slug: str, row: Document, reasons: dict[int, str]) -> DocumentRow:
    return DocumentRow(
        ordinal=row.ordinal,
        name=row.name,
        split=row.split,
        n_bytes=row.n_bytes,
        url=f"/corpora/{slug}/{row.ordinal}",
        skipped=reasons.get(row.ordinal, ""),
    )


def _skipped(row: Corpus) -> tuple[int | None, dict[int, str]]:
    """Return the last build that finished reading the corpus, and why it skipped which documents."""
    run = Run.objects.filter(corpus=row, kind=Run.Kind.BUILD, result__has_key="skipped").order_by("-id").first()
    if run is None:
        return None, {}
    return run.pk, {entry["ordinal"]: entry["reason"] for entry in run.result["skipped"]}


def _tokenizations(row: Corpus) -> tuple[TokenizationRow, ...]:
    rows = Tokenization.objects.filter(corpus=row).select_related("model").prefetch_related("dictionaries")
    return tuple(
        TokenizationRow(
            model=made.model.slug,
            context_size=made.context_size,
            n_contexts=made.n_contexts,
            n_tokens=made.n_tokens,
            has_bos=made.has_bos,
            created_at=made.created_at,
            sources=tuple(sorted(dictionary.source for dictionary in made.dictionaries.all())),
        )
        for made in rows.order_by("-id")
    )
