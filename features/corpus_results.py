"""What selectors return about corpora: frozen values for pages and the API, as those of features.results."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from features.results import Page


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusCard:
    """A corpus: how much text it has, and how many of its documents are held out as tests."""

    slug: str
    name: str
    description: str
    n_documents: int
    n_test: int
    n_bytes: int
    created_at: datetime

    @property
    def url(self) -> str:
        return f"/corpora/{self.slug}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentRow:
    """A document in a list; `skipped` says why the last build that read the corpus took no context from it."""

    ordinal: int
    name: str
    split: str
    n_bytes: int
    url: str
    skipped: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizationRow:
    """The contexts that a model's tokenizer made of a corpus, and the dictionaries that stand on them."""

    model: str
    context_size: int
    n_contexts: int
    n_tokens: int
    has_bos: bool
    created_at: datetime
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusPage:
    """A corpus with one page of its documents.

    `left_out` counts, by reason, what was found and is no document, and `left_out_first` names the first. `skipped`
    counts documents that gave the last build no context; that build is the run `skipped_by`.
    """

    corpus: CorpusCard
    documents: Page[DocumentRow]
    tokenizations: tuple[TokenizationRow, ...]
    left_out: tuple[tuple[str, int], ...] = ()
    left_out_first: tuple[tuple[str, str], ...] = ()
    skipped: tuple[tuple[str, int], ...] = ()
    skipped_by: int | None = None
