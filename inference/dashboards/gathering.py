"""Contexts while documents are read: gathered, told apart from their duplicates, and taken away stretch by stretch.

Suffixes: C contexts, T tokens of contexts end to end.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inference.dashboards.results import SPLITS, ContextTable, DocumentRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Contexts `first_context`, ... of a corpus, with the tokens from `first_token` on.

    `indptr_c` counts from 0 at the first token of the stretch, `duplicate_of_c` over the corpus.
    """

    first_context: int
    first_token: int
    has_bos: bool
    text: Sequence[str]
    document_c: np.ndarray  # int32
    line_c: np.ndarray  # int32
    split_c: np.ndarray  # uint8
    duplicate_of_c: np.ndarray  # int32
    indptr_c: np.ndarray  # int64
    token_ids_t: np.ndarray  # uint32
    starts_t: np.ndarray  # uint32
    ends_t: np.ndarray  # uint32

    def __len__(self) -> int:
        return len(self.document_c)

    @property
    def n_text_tokens(self) -> int:
        return len(self.token_ids_t) - len(self) * self.has_bos


class Gathered:
    """Contexts that were read and not taken yet, and what is known of all that were ever read."""

    def __init__(self, *, bos: int | None) -> None:
        self.bos = bos
        self.n_contexts = self.n_tokens = 0
        self.n_similar = array("i")
        self._digest = hashlib.sha256()
        self._first_of: dict[bytes, int] = {}
        self._clear()

    def __len__(self) -> int:
        return len(self._text)

    @property
    def digest(self) -> str:
        """The digest of ids, offsets, lines, splits and document names."""
        return self._digest.hexdigest()

    def add(
        self,
        document: DocumentRef,
        text: str,
        ids: np.ndarray,
        starts: np.ndarray,
        ends: np.ndarray,
        windows: list[tuple[int, int]],
    ) -> None:
        """Add a document's windows, ranges of its tokens, as contexts."""
        line, counted_to = 1, 0
        if windows:
            self._digest.update(f"{document.ordinal}\0{document.name}\0{document.split}\0{self.bos}\0".encode())
        for start, stop in windows:
            first, last = int(starts[start]), int(ends[stop - 1])
            line, counted_to = line + text.count("\n", counted_to, first), first
            columns = (ids[start:stop], starts[start:stop] - np.uint32(first), ends[start:stop] - np.uint32(first))
            self._digest.update(f"{line}\0{stop - start}\0".encode())
            for kept, column in zip((self._ids, self._starts, self._ends), columns, strict=True):
                self._digest.update(np.ascontiguousarray(column))
                kept.append(column)
            self._text.append(text[first:last])
            self._document.append(document.ordinal)
            self._line.append(line)
            self._split.append(SPLITS.index(document.split))
            self._length.append(stop - start)
            self._duplicate_of.append(self._first_like(text[first:last]))

    def take(self, n_contexts: int | None = None) -> Stretch:
        """Take the oldest contexts away, or all."""
        taken = slice(0, len(self) if n_contexts is None else n_contexts)
        n_special = 0 if self.bos is None else 1
        lengths = np.array(self._length[taken], dtype=np.int64) + n_special
        special = np.full(n_special, self.bos or 0, dtype=np.uint32)
        zero = np.zeros(n_special, dtype=np.uint32)
        stretch = Stretch(
            first_context=self.n_contexts - len(self),
            first_token=self.n_tokens,
            has_bos=self.bos is not None,
            text=self._text[taken],
            document_c=np.array(self._document[taken], dtype=np.int32),
            line_c=np.array(self._line[taken], dtype=np.int32),
            split_c=np.array(self._split[taken], dtype=np.uint8),
            duplicate_of_c=np.array(self._duplicate_of[taken], dtype=np.int32),
            indptr_c=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            token_ids_t=_behind(special, self._ids[taken]),
            starts_t=_behind(zero, self._starts[taken]),
            ends_t=_behind(zero, self._ends[taken]),
        )
        self.n_tokens += len(stretch.token_ids_t)
        for column in self._columns():
            del column[taken]
        return stretch

    def _first_like(self, text: str) -> int:
        """Return the number of the first context that is equal up to spacing and case, and count this one."""
        number = self.n_contexts
        key = hashlib.blake2b("".join(text.casefold().split()).encode("utf-8", "replace"), digest_size=16).digest()
        first = self._first_of.setdefault(key, number)
        self.n_similar.append(0)
        if first != number:
            self.n_similar[first] += 1
        self.n_contexts += 1
        return first

    def _clear(self) -> None:
        self._text: list[str] = []
        self._document: list[int] = []
        self._line: list[int] = []
        self._split: list[int] = []
        self._length: list[int] = []
        self._duplicate_of: list[int] = []
        self._ids: list[np.ndarray] = []
        self._starts: list[np.ndarray] = []
        self._ends: list[np.ndarray] = []

    def _columns(self) -> tuple[list, ...]:
        return (
            self._text, self._document, self._line, self._split, self._length, self._duplicate_of,
            self._ids, self._starts, self._ends,
        )  # fmt: skip


def table_of(stretches: Sequence[Stretch], gathered: Gathered) -> ContextTable:
    """Return all contexts in one table, in memory."""
    columns = ("document_c", "line_c", "split_c", "duplicate_of_c", "token_ids_t", "starts_t", "ends_t")
    lengths = np.concatenate([np.diff(stretch.indptr_c) for stretch in stretches])
    return ContextTable(
        text=[text for stretch in stretches for text in stretch.text],
        n_similar_c=np.array(gathered.n_similar, dtype=np.int32),
        indptr_c=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        has_bos=gathered.bos is not None,
        digest=gathered.digest,
        **{name: np.concatenate([getattr(stretch, name) for stretch in stretches]) for name in columns},
    )


def _behind(special: np.ndarray, parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([piece for part in parts for piece in (special, part)] or [special[:0]]).astype(np.uint32)
