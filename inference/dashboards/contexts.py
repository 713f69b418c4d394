"""The contexts of a corpus on disk: tokenised once, one file for every shard, and an index of them all.

Builds that read the same documents in the same way share them, and so do the workers of a build: each reads the
stretch that its shard needs. Whoever needs all of them (`ContextStore.table`) maps them from a file.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from inference.dashboards.columns import ColumnReader, ColumnWriter
from inference.dashboards.corpus import Reading, gather
from inference.dashboards.gathering import Gathered, Stretch
from inference.dashboards.partials import CheckedFolder, explained
from inference.dashboards.results import ContextTable, DocumentRef, Progress, SkippedDocument

if TYPE_CHECKING:
    from inference.language_models import LanguageModel

# Raise it when contexts change their meaning: older ones are then read again.
LAYOUT = 1
_BY_CONTEXT = ("document_c", "line_c", "split_c", "duplicate_of_c")
_BY_TOKEN = ("token_ids_t", "starts_t", "ends_t")


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextIndex:
    """What is known of all contexts of a corpus: S shards, C contexts, V token ids."""

    first_context_s: np.ndarray  # int64, with the number of all contexts at the end
    first_token_s: np.ndarray  # int64, BOS included, with the number of all tokens at the end
    n_similar_c: np.ndarray  # int32
    token_count_v: np.ndarray  # int64, how often each token id stands in the text
    has_bos: bool
    context_tokens: int
    digest: str
    n_duplicates: int
    skipped: list[SkippedDocument]

    @property
    def n_shards(self) -> int:
        return len(self.first_context_s) - 1

    @property
    def n_contexts(self) -> int:
        return int(self.first_context_s[-1])

    @property
    def n_tokens(self) -> int:
        """Tokens of text, without BOS."""
        return self.text_tokens(self.n_shards)

    def text_tokens(self, n_shards: int) -> int:
        """Return the tokens of text of the first so many shards."""
        return int(self.first_token_s[n_shards]) - int(self.first_context_s[n_shards]) * self.has_bos


class Texts(Sequence[str]):
    """Texts that lie end to end in one buffer of UTF-8."""

    def __init__(self, data: np.ndarray, indptr: np.ndarray) -> None:
        self.data, self._indptr = data, indptr

    @property
    def lengths(self) -> np.ndarray:
        """The bytes of each."""
        return np.diff(self._indptr)

    def __len__(self) -> int:
        return len(self._indptr) - 1

    def __getitem__(self, number: int) -> str:  # type: ignore[override]
        if not 0 <= number < len(self):
            raise IndexError(number)
        return self.data[self._indptr[number] : self._indptr[number + 1]].tobytes().decode()


class ContextStore:
    """The contexts that a model's tokenizer cuts from documents, in a folder of their own under `place`."""

    def __init__(
        self,
        place: str | Path,
        model: LanguageModel,
        documents: Iterable[DocumentRef],
        reading: Reading,
        *,
        shard_tokens: int,
    ) -> None:
        self.reading = reading
        self.shard_contexts = max(1, shard_tokens // reading.context_tokens)
        self.d_vocab = model.d_vocab
        facts = {
            "layout": LAYOUT,
            "tokenizer": hashlib.sha256(model.tokenizer.backend_tokenizer.to_str().encode()).hexdigest(),
            "reading": asdict(reading),
            "shard_contexts": self.shard_contexts,
            "documents": _documents_digest(documents),
        }
        self.folder = CheckedFolder(place, facts)

    def index(self) -> ContextIndex | None:
        """Return the index, or None where the corpus has not been read yet."""
        file = self.folder.load("index")
        if file is None:
            return None
        said = json.loads(file.array("said").tobytes())
        skipped = [SkippedDocument(**document) for document in said.pop("skipped")]
        arrays = {name: file.array(name) for name in ("first_context_s", "first_token_s", "n_similar_c")}
        return ContextIndex(**arrays, token_count_v=file.array("token_count_v"), skipped=skipped, **said)

    def read(
        self,
        model: LanguageModel,
        documents: Sequence[DocumentRef],
        *,
        progress: Callable[[Progress], None] = lambda _: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> ContextIndex:
        """Read the documents and write their contexts; return the index. Raises NothingToRead and Cancelled."""
        skipped: list[SkippedDocument] = []
        gathered = Gathered(bos=self.reading.bos)
        first_context, n_duplicates = [0], 0
        first_token, token_count_v = [0], np.zeros(self.d_vocab, dtype=np.int64)

        def write(stretch: Stretch) -> None:
            nonlocal n_duplicates
            self.folder.save(_key(len(first_context) - 1), lambda writer: _write_stretch(writer, stretch))
            first_context.append(stretch.first_context + len(stretch))
            first_token.append(stretch.first_token + len(stretch.token_ids_t))
            own = stretch.first_context + np.arange(len(stretch))
            n_duplicates += int((stretch.duplicate_of_c != own).sum())
            ids_t = np.delete(stretch.token_ids_t, stretch.indptr_c[:-1]) if stretch.has_bos else stretch.token_ids_t
            token_count_v[:] += np.bincount(ids_t, minlength=self.d_vocab)

        for _ in gather(model, documents, self.reading, gathered, skipped, progress=progress, should_stop=should_stop):
            while len(gathered) >= self.shard_contexts:
                write(gathered.take(self.shard_contexts))
        if len(gathered):
            write(gathered.take())
        said = {
            "has_bos": gathered.bos is not None,
            "context_tokens": self.reading.context_tokens,
            "digest": gathered.digest,
            "n_duplicates": n_duplicates,
            "skipped": [asdict(document) for document in skipped],
        }
        arrays = {
            "first_context_s": np.array(first_context, dtype=np.int64),
            "first_token_s": np.array(first_token, dtype=np.int64),
            "n_similar_c": np.array(gathered.n_similar, dtype=np.int32),
            "token_count_v": token_count_v,
            "said": np.frombuffer(json.dumps(said).encode(), dtype=np.uint8),
        }
        self.folder.save("index", lambda writer: [writer.array(name, array) for name, array in arrays.items()])
        del arrays["said"]
        return ContextIndex(**arrays, **said | {"skipped": skipped})

    def stretch(self, index: ContextIndex, number: int) -> Stretch | None:
        """Return the contexts of a shard, or None where their file is gone or corrupt."""
        file = self.folder.load(_key(number))
        return None if file is None else _read_stretch(file, index, number)

    def table(self, index: ContextIndex) -> ContextTable | None:
        """Return all contexts, mapped from a file that nobody else sees; None where a shard's are gone or corrupt."""
        columns: dict[str, list[np.ndarray]] = {name: [] for name in _BY_CONTEXT}
        lengths, text_lengths = [], []
        temporary = tempfile.TemporaryDirectory(prefix="facet-contexts-")
        with explained(tempfile.gettempdir()), temporary as folder:
            files = {name: (Path(folder) / name).open("w+b") for name in (*_BY_TOKEN, "text")}
            for number in range(index.n_shards):
                stretch = self.stretch(index, number)
                if stretch is None:
                    return None
                for name in _BY_CONTEXT:
                    columns[name].append(getattr(stretch, name))
                for name in _BY_TOKEN:
                    files[name].write(memoryview(getattr(stretch, name)).cast("B"))
                lengths.append(np.diff(stretch.indptr_c))
                text_lengths.append(stretch.text.lengths)
                files["text"].write(memoryview(stretch.text.data))
            mapped = {name: _mapped(files[name], "<u4") for name in _BY_TOKEN}
            text = Texts(_mapped(files["text"], "u1"), _indptr(text_lengths))
        return ContextTable(
            text=text,
            **{name: np.concatenate(parts) for name, parts in columns.items()},
            n_similar_c=index.n_similar_c,
            indptr_c=_indptr(lengths),
            **mapped,
            has_bos=index.has_bos,
            digest=index.digest,
        )


def _write_stretch(writer: ColumnWriter, stretch: Stretch) -> None:
    for name in (*_BY_CONTEXT, *_BY_TOKEN, "indptr_c"):
        writer.array(name, getattr(stretch, name))
    encoded = [text.encode() for text in stretch.text]
    writer.array("text", np.frombuffer(b"".join(encoded), dtype=np.uint8))
    writer.array("text_indptr", _indptr([np.array([len(text) for text in encoded], dtype=np.int64)]))


def _read_stretch(file: ColumnReader, index: ContextIndex, number: int) -> Stretch:
    names = (*_BY_CONTEXT, *_BY_TOKEN, "indptr_c")
    return Stretch(
        first_context=int(index.first_context_s[number]),
        first_token=int(index.first_token_s[number]),
        has_bos=index.has_bos,
        text=Texts(file.array("text"), file.array("text_indptr")),
        **{name: file.array(name) for name in names},
    )


def _documents_digest(documents: Iterable[DocumentRef]) -> str:
    """Return a digest of what documents are; where a text's own is unknown, of its file's size and time."""
    found = hashlib.sha256()
    for document in documents:
        facts: list[Any] = [document.ordinal, document.name, document.split, document.start, document.sha256]
        if not document.sha256:
            try:
                stat = os.stat(document.path)
            except OSError:
                facts.append("unreadable")
            else:
                facts += [document.path, stat.st_size, stat.st_mtime_ns]
        found.update(json.dumps(facts).encode())
    return found.hexdigest()


def _indptr(lengths: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(np.concatenate(lengths))]).astype(np.int64)


def _mapped(file: BinaryIO, dtype: str) -> np.ndarray:
    """Map a file that was written and close it; its name may go, the mapping keeps what it holds."""
    file.flush()
    size = file.tell()
    array = np.memmap(file, dtype=dtype, mode="r") if size else np.zeros(0, dtype=dtype)
    file.close()
    return array


def _key(number: int) -> str:
    return f"{number:05d}"
