"""From documents to contexts: windows of tokens that know their document, line and characters.

Documents are read in the order of a hash of their name, so that a budget of tokens is spent on a fair sample of the
corpus and on the same one everywhere. Imports neither torch nor Django.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from inference.dashboards.gathering import Gathered, table_of
from inference.dashboards.results import ContextTable, DocumentRef, Progress, SkippedDocument
from inference.errors import FacetError, InvalidInput

if TYPE_CHECKING:
    from inference.language_models import LanguageModel

SHORTEST_WINDOW = 16
# Of one document: longer ones are most often data, and one of them would take the place of many.
MAX_DOCUMENT_BYTES = 2_000_000
_BATCH = 32
# How far to each side of a peak two contexts must agree to count as the same example.
_BEFORE, _AFTER = 5, 2
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class NothingToRead(InvalidInput):
    """A corpus of which no document gave a context."""

    code = "nothing-to-read"


class Cancelled(FacetError):
    """Someone asked the pass to stop; what is finished is kept."""

    code = "cancelled"
    status = 409

    def __init__(self) -> None:
        super().__init__("The build was cancelled.", "Resume it: finished shards are kept.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How a corpus is cut: `n_tokens` of text in contexts of `width` tokens, behind a BOS unless `bos` is None."""

    n_tokens: int
    width: int
    bos: int | None
    max_document_bytes: int = MAX_DOCUMENT_BYTES

    @property
    def context_tokens(self) -> int:
        """The tokens of a whole context, BOS included."""
        return self.width + (self.bos is not None)

    @classmethod
    def of(cls, model: LanguageModel, *, n_tokens: int, context_size: int, prepend_bos: bool) -> Reading:
        """Return how a model reads; raise InvalidInput for contexts that are too short."""
        bos = model.bos_id if prepend_bos else None
        width = min(context_size, model.context_size) - (bos is not None)
        if width < SHORTEST_WINDOW:
            raise InvalidInput(
                f"Contexts of {context_size} tokens are too short.",
                f"Use at least {SHORTEST_WINDOW + 1}, and at most the model's {model.context_size}.",
            )
        return cls(n_tokens=n_tokens, width=width, bos=bos)


def read_contexts(
    model: LanguageModel,
    documents: Sequence[DocumentRef],
    *,
    n_tokens: int,
    context_size: int,
    prepend_bos: bool = True,
    max_document_bytes: int = MAX_DOCUMENT_BYTES,
    progress: Callable[[Progress], None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[ContextTable, list[SkippedDocument]]:
    """Cut documents into windows of at most `context_size` tokens, BOS first, until `n_tokens` of text are taken.

    A document's last window is kept if it has at least 16 tokens of text. Documents that cannot be read are skipped
    and listed. Raises NothingToRead and Cancelled.
    """
    reading = Reading.of(model, n_tokens=n_tokens, context_size=context_size, prepend_bos=prepend_bos)
    reading = replace(reading, max_document_bytes=max_document_bytes)
    skipped: list[SkippedDocument] = []
    gathered = Gathered(bos=reading.bos)
    for _ in gather(model, documents, reading, gathered, skipped, progress=progress, should_stop=should_stop):
        pass
    return table_of([gathered.take()], gathered), skipped


def gather(
    model: LanguageModel,
    documents: Sequence[DocumentRef],
    reading: Reading,
    gathered: Gathered,
    skipped: list[SkippedDocument],
    *,
    progress: Callable[[Progress], None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[None]:
    """Add the contexts of one document after another to `gathered`; yield behind each. Raises as read_contexts."""
    taken = 0
    for document, text, ids, starts, ends in _tokenized(model, documents, skipped, reading.max_document_bytes):
        if should_stop():
            raise Cancelled
        windows = _windows(len(ids), reading.width, reading.n_tokens - taken)
        if not windows and len(ids) < SHORTEST_WINDOW:
            skipped.append(SkippedDocument(ordinal=document.ordinal, name=document.name, reason="short"))
        gathered.add(document, text, ids, starts, ends, windows)
        taken += sum(stop - start for start, stop in windows)
        done = min(taken, reading.n_tokens)
        progress(Progress(phase="read", done=done, total=reading.n_tokens, unit="tokens", message=document.name))
        yield
        if reading.n_tokens - taken < min(reading.width, SHORTEST_WINDOW):
            break
    if not gathered.n_contexts:
        reasons = sorted({entry.reason for entry in skipped})
        raise NothingToRead(
            f"None of {len(documents)} documents gave a context" + (f" ({', '.join(reasons)})." if reasons else "."),
            "Use documents of UTF-8 text.",
            skipped=len(skipped),
        )


def local_keys(contexts: ContextTable) -> np.ndarray:
    """Return a 64-bit key per token, equal where the tokens around are: five before, itself, two after."""
    ids_t = contexts.token_ids_t.astype(np.uint64) + np.uint64(1)
    n = len(ids_t)
    lengths_c = np.diff(contexts.indptr_c)
    offset_t = np.arange(n) - np.repeat(contexts.indptr_c[:-1], lengths_c)
    remaining_t = np.repeat(lengths_c, lengths_c) - 1 - offset_t
    key_t = np.zeros(n, dtype=np.uint64)
    for step in range(-_BEFORE, _AFTER + 1):
        inside = (offset_t >= -step) if step < 0 else (remaining_t >= step)
        near_t = np.where(inside, np.roll(ids_t, -step), np.uint64(0))
        key_t = mixed(key_t ^ near_t)
    return key_t


def mixed(x: np.ndarray | np.uint64) -> np.ndarray:
    """Scramble 64-bit integers (the finaliser of SplitMix64), so that equal inputs and only they agree."""
    with np.errstate(over="ignore"):
        x = x + _GOLDEN
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def in_hash_order(documents: Sequence[DocumentRef]) -> list[DocumentRef]:
    """Return documents in an order that no name's place in the alphabet decides."""
    return sorted(documents, key=lambda document: (hashlib.blake2b(document.name.encode()).digest(), document.ordinal))


def _tokenized(
    model: LanguageModel, documents: Sequence[DocumentRef], skipped: list[SkippedDocument], max_bytes: int
) -> Iterator[tuple[DocumentRef, str, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield `(document, text, ids, starts, ends)` of the readable ones, without BOS."""
    ordered = in_hash_order(documents)
    for first in range(0, len(ordered), _BATCH):
        readable = []
        for document in ordered[first : first + _BATCH]:
            text, reason = _read(document, max_bytes)
            if reason:
                skipped.append(SkippedDocument(ordinal=document.ordinal, name=document.name, reason=reason))
            else:
                readable.append((document, text))
        encodings = model.tokenizer.backend_tokenizer.encode_batch(
            [text for _, text in readable], add_special_tokens=False
        )
        for (document, text), encoding in zip(readable, encodings, strict=True):
            spans = np.array(encoding.offsets, dtype=np.uint32).reshape(-1, 2)
            # Spans tile the text: what a tokenizer trims off a token belongs to the next one.
            ends = np.maximum.accumulate(spans[:, 1])
            starts = np.minimum(spans[1:, 0], ends[:-1])
            starts = np.concatenate([np.zeros(min(len(ends), 1), dtype=np.uint32), starts])
            yield document, text, np.array(encoding.ids, dtype=np.uint32), starts, ends


def _read(document: DocumentRef, max_bytes: int) -> tuple[str, str]:
    """Return `(text, "")`, or an empty text and the reason to skip the document."""
    path = Path(document.path)
    try:
        if (path.stat().st_size if document.start is None else document.n_bytes) > max_bytes:
            return "", "enormous"
        text = text_of(document)
    except OSError:
        return "", "unreadable"
    except UnicodeDecodeError:
        return "", "not UTF-8"
    except ValueError:
        return "", "not JSON"
    if "\0" in text:
        return "", "binary"
    return (text, "") if text.strip() else ("", "empty")


def text_of(document: DocumentRef) -> str:
    """Return what a document says: a file, or one field of a line of JSON. Raises OSError and ValueError."""
    path = Path(document.path)
    if document.start is None:
        return path.read_bytes().decode("utf-8-sig")
    with path.open("rb") as file:
        file.seek(document.start)
        found = json.loads(file.read(document.n_bytes))
    text = found.get(document.field) if isinstance(found, dict) else None
    if not isinstance(text, str):
        raise ValueError
    return text.encode("utf-8", "replace").decode()


def _windows(n: int, width: int, budget: int) -> list[tuple[int, int]]:
    """Return the token ranges of a document's windows inside the budget."""
    n = min(n, budget)
    starts = range(0, max(n, 0), width)
    return [(start, min(start + width, n)) for start in starts if min(width, n - start) >= SHORTEST_WINDOW]
