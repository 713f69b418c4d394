"""From documents to contexts: windows of tokens that know their document, line and characters.

Documents are read in the order of a hash of their name, so that a budget of tokens is spent on a fair sample of the
corpus and on the same one everywhere. Imports neither torch nor Django.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from inference.dashboards.results import SPLITS, ContextTable, DocumentRef, Progress, SkippedDocument
from inference.errors import FacetError, InvalidInput

if TYPE_CHECKING:
    from inference.language_models import LanguageModel

SHORTEST_WINDOW = 16
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


@dataclass(slots=True)
class _Growing:
    """Columns of the context table while documents are read."""

    text: list[str] = field(default_factory=list)
    document: list[int] = field(default_factory=list)
    line: list[int] = field(default_factory=list)
    split: list[int] = field(default_factory=list)
    length: list[int] = field(default_factory=list)
    ids: list[np.ndarray] = field(default_factory=list)
    starts: list[np.ndarray] = field(default_factory=list)
    ends: list[np.ndarray] = field(default_factory=list)


def read_contexts(
    model: LanguageModel,
    documents: Sequence[DocumentRef],
    *,
    n_tokens: int,
    context_size: int,
    prepend_bos: bool = True,
    max_document_bytes: int = 2_000_000,
    progress: Callable[[Progress], None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[ContextTable, list[SkippedDocument]]:
    """Cut documents into windows of at most `context_size` tokens, BOS first, until `n_tokens` of text are taken.

    A document's last window is kept if it has at least 16 tokens of text. Documents that cannot be read are skipped
    and listed. Raises NothingToRead and Cancelled.
    """
    bos = model.bos_id if prepend_bos else None
    width = min(context_size, model.context_size) - (bos is not None)
    if width < SHORTEST_WINDOW:
        raise InvalidInput(
            f"Contexts of {context_size} tokens are too short.",
            f"Use at least {SHORTEST_WINDOW + 1}, and at most the model's {model.context_size}.",
        )
    grown, skipped, taken = _Growing(), [], 0
    names = hashlib.sha256()
    for document, text, ids, starts, ends in _tokenized(model, documents, skipped, max_document_bytes):
        if should_stop():
            raise Cancelled
        windows = _windows(len(ids), width, n_tokens - taken)
        if not windows and len(ids) < SHORTEST_WINDOW:
            skipped.append(SkippedDocument(ordinal=document.ordinal, name=document.name, reason="short"))
        names.update(f"{document.ordinal}\0{document.name}\0".encode() if windows else b"")
        _append(grown, document, text, ids, starts, ends, windows, bos)
        taken += sum(stop - start for start, stop in windows)
        progress(
            Progress(phase="read", done=min(taken, n_tokens), total=n_tokens, unit="tokens", message=document.name)
        )
        if n_tokens - taken < min(width, SHORTEST_WINDOW):
            break
    if not grown.text:
        reasons = sorted({entry.reason for entry in skipped})
        raise NothingToRead(
            f"None of {len(documents)} documents gave a context" + (f" ({', '.join(reasons)})." if reasons else "."),
            "Use documents of UTF-8 text.",
            skipped=len(skipped),
        )
    return _table(grown, bos is not None, names), skipped


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
            text, reason = _read(Path(document.path), max_bytes)
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


def _read(path: Path, max_bytes: int) -> tuple[str, str]:
    """Return `(text, "")`, or an empty text and the reason to skip the document."""
    try:
        if path.stat().st_size > max_bytes:
            return "", "enormous"
        text = path.read_bytes().decode("utf-8-sig")
    except OSError:
        return "", "unreadable"
    except UnicodeDecodeError:
        return "", "not UTF-8"
    if "\0" in text:
        return "", "binary"
    return (text, "") if text.strip() else ("", "empty")


def _windows(n: int, width: int, budget: int) -> list[tuple[int, int]]:
    """Return the token ranges of a document's windows inside the budget."""
    n = min(n, budget)
    starts = range(0, max(n, 0), width)
    return [(start, min(start + width, n)) for start in starts if min(width, n - start) >= SHORTEST_WINDOW]


def _append(
    grown: _Growing,
    document: DocumentRef,
    text: str,
    ids: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    windows: list[tuple[int, int]],
    bos: int | None,
) -> None:
    line, counted_to = 1, 0
    for start, stop in windows:
        first, last = int(starts[start]), int(ends[stop - 1])
        line, counted_to = line + text.count("\n", counted_to, first), first
        special = [] if bos is None else [0]
        grown.text.append(text[first:last])
        grown.document.append(document.ordinal)
        grown.line.append(line)
        grown.split.append(SPLITS.index(document.split))
        grown.length.append(stop - start + len(special))
        grown.ids += [np.array([] if bos is None else [bos], dtype=np.uint32), ids[start:stop]]
        grown.starts += [np.array(special, dtype=np.uint32), starts[start:stop] - np.uint32(first)]
        grown.ends += [np.array(special, dtype=np.uint32), ends[start:stop] - np.uint32(first)]


def _table(grown: _Growing, has_bos: bool, names: hashlib._Hash) -> ContextTable:
    duplicate_of, n_similar = _duplicates(grown.text)
    arrays = {
        "document_c": np.array(grown.document, dtype=np.int32),
        "line_c": np.array(grown.line, dtype=np.int32),
        "split_c": np.array(grown.split, dtype=np.uint8),
        "duplicate_of_c": duplicate_of,
        "n_similar_c": n_similar,
        "indptr_c": np.concatenate([[0], np.cumsum(grown.length)]).astype(np.int64),
        "token_ids_t": np.concatenate(grown.ids),
        "starts_t": np.concatenate(grown.starts),
        "ends_t": np.concatenate(grown.ends),
    }
    for array in arrays.values():
        names.update(np.ascontiguousarray(array).tobytes())
    return ContextTable(text=grown.text, has_bos=has_bos, digest=names.hexdigest(), **arrays)


def _duplicates(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return for each text the first equal one up to spacing and case, and how many later ones equal it."""
    first_of: dict[bytes, int] = {}
    duplicate_of = np.arange(len(texts), dtype=np.int32)
    n_similar = np.zeros(len(texts), dtype=np.int32)
    for number, text in enumerate(texts):
        key = hashlib.blake2b("".join(text.casefold().split()).encode(), digest_size=16).digest()
        first = first_of.setdefault(key, number)
        if first != number:
            duplicate_of[number] = first
            n_similar[first] += 1
    return duplicate_of, n_similar
