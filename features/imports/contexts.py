"""The contexts of all shards, each once, with the ids of their tokens.

Suffixes: C contexts, T tokens of all contexts end to end, V strings of a part.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from features.imports.activations import gathered
from features.imports.shards import Shard
from features.imports.strings import is_special, joined
from features.words import storable
from inference import packing
from inference.packing import Lists

_NAMED_LINE = re.compile(r"(.+):(\d{1,9})")
NO_DATASET = "not said"
CHUNK = 1024


class Token(NamedTuple):
    """What a string of the files is: the id of its token and the bytes of its text."""

    id: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of a shard that holds activations, with the global numbers of its contexts and strings."""

    shard: Shard
    number: int
    strings: list[str]
    context_c: np.ndarray
    new_c: np.ndarray  # the contexts that no earlier part has

    def array(self, name: str) -> np.ndarray:
        return self.shard.array(f"{self.number}.{name}")

    def new(self) -> Iterator[tuple[np.ndarray, Lists]]:
        """Yield the contexts that no earlier part has, CHUNK of them at a time, with the strings of each."""
        indptr_c, token_t = self.array("indptr_c"), self.array("token_t")
        for first in range(0, len(self.new_c), CHUNK):
            local_c = self.new_c[first : first + CHUNK]
            length_c = np.diff(indptr_c)[local_c]
            yield local_c, Lists(values_n=token_t[gathered(indptr_c[local_c], length_c)], lengths_r=length_c)


@dataclass(slots=True, kw_only=True)
class Contexts:
    """All contexts of an import: first `gather`, then `write_ids`, then `chunks` and `ids`.

    Memory grows with the number of different contexts, about 150 bytes each, not with activations.
    """

    workdir: Path
    parts: list[Part] = field(default_factory=list)
    documents: dict[str, int] = field(default_factory=dict)
    longest: int = 0
    has_bos: bool = False
    digest: str = ""
    n_tokens: int = 0
    _known: dict[bytes, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._known)

    def gather(self, shards: Sequence[Shard]) -> None:
        """Number the contexts of all shards in the order of the files."""
        first: set[str] = set()
        whole = hashlib.sha256()
        for shard in shards:
            for number in range(shard.facts.get("parts", 0)):
                part = self._part(shard, number, whole)
                self.parts.append(part)
                indptr_c = part.array("indptr_c")
                starts = part.array("token_t")[indptr_c[:-1]]
                first.update(part.strings[string] for string in np.unique(starts).tolist())
                self.longest = max(self.longest, int(np.diff(indptr_c).max(initial=0)))
                self.n_tokens += int(np.diff(indptr_c)[part.new_c].sum())
        self.has_bos = len(first) == 1 and is_special(next(iter(first)))
        self.n_tokens -= len(self) * self.has_bos
        self.digest = whole.hexdigest()

    def strings(self) -> set[str]:
        """Return every string of a context."""
        return {string for part in self.parts for string in part.strings}

    def write_ids(self, tokens: Mapping[str, Token]) -> None:
        """Write the token ids of all contexts to disk, for `ids`."""
        bound = np.int64(0)
        with self._ids_path.open("wb") as ids_file, self._bounds_path.open("wb") as bounds_file:
            bounds_file.write(bound.tobytes())
            for part in self.parts:
                id_v = np.array([tokens[string].id for string in part.strings], dtype=np.uint32)
                for _, strings in part.new():
                    ids_file.write(id_v[strings.values_n].tobytes())
                    bounds_file.write((bound + strings.bounds[1:]).tobytes())
                    bound += len(strings.values_n)

    def chunks(
        self, tokens: Mapping[str, Token], d_vocab: int, *, dataset: str, progress: Callable[[int], None]
    ) -> Iterator[dict[str, Any]]:
        """Yield the columns of all contexts in order, a chunk at a time; `progress` is told how many are done."""
        done = 0
        for part in self.parts:
            origins = list(part.shard.lines(f"{part.number}.origins"))
            vocabulary = _Vocabulary([tokens[string] for string in part.strings])
            for local_c, strings in part.new():
                string_t, bounds = strings.values_n, strings.bounds
                text, spans = vocabulary.texts(string_t, bounds, has_bos=self.has_bos)
                ids = Lists(values_n=vocabulary.id_v[string_t], lengths_r=strings.lengths_r)
                columns = self._origins([origins[local] for local in local_c.tolist()], dataset)
                ordinal_c = part.context_c[local_c]
                columns |= {"ordinal": ordinal_c, "duplicate_of": ordinal_c, "text": text, "spans": spans}
                yield columns | {"token_ids": packing.token_rows(ids, d_vocab)}
                done += len(local_c)
                progress(done)

    def ids(self) -> tuple[np.ndarray, np.ndarray]:
        """Return `(token ids, bounds)` of all contexts, from disk."""
        bounds_c = np.fromfile(self._bounds_path, dtype=np.int64)
        if bounds_c[-1] == 0:
            return np.zeros(0, dtype=np.uint32), bounds_c
        return np.memmap(self._ids_path, dtype=np.uint32, mode="r"), bounds_c

    @property
    def _ids_path(self) -> Path:
        return self.workdir / "token_ids.u32"

    @property
    def _bounds_path(self) -> Path:
        return self.workdir / "bounds.i64"

    def _part(self, shard: Shard, number: int, whole: Any) -> Part:
        digest_c = shard.array(f"{number}.digest_c")
        context_c = np.empty(len(digest_c), dtype=np.int32)
        new = []
        for local, digest in enumerate(packing.record_rows(digest_c)):
            if digest not in self._known:
                self._known[digest] = len(self._known)
                new.append(local)
                whole.update(digest)
            context_c[local] = self._known[digest]
        return Part(
            shard=shard,
            number=number,
            strings=list(shard.lines(f"{number}.strings")),
            context_c=context_c,
            new_c=np.array(new, dtype=np.int64),
        )

    def _origins(self, origins: Sequence[list[Any]], dataset: str) -> dict[str, list[Any]]:
        """Return where contexts come from."""
        documents, lines = [], []
        for source, place, _, _ in origins:
            match = _NAMED_LINE.fullmatch(place)
            name = match[1] if match else source or dataset or NO_DATASET
            documents.append(self.documents.setdefault(name, len(self.documents)))
            lines.append(int(match[2]) if match else 0)
        return {
            "document": documents,
            "line": lines,
            "is_test": [origin[2] for origin in origins],
            "n_similar": [origin[3] for origin in origins],
        }


class _Vocabulary:
    """The tokens of a part, suffix V: most are whole characters, so that texts are joined without looking at bytes."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._data = [token.data for token in tokens]
        self.id_v = np.array([token.id for token in tokens], dtype=np.uint32)
        self._texts = [storable(data.decode(errors="replace")) for data in self._data]
        self._length_v = np.array([len(text) for text in self._texts], dtype=np.int64)
        self._is_whole_v = np.array([_is_whole(data) for data in self._data], dtype=bool)

    def texts(self, string_t: np.ndarray, bounds: np.ndarray, *, has_bos: bool) -> tuple[list[str], list[bytes]]:
        """Return the text of each context and the packed spans of its tokens; a BOS has no text."""
        length_t = self._length_v[string_t]
        whole_t = self._is_whole_v[string_t]
        starts = bounds[:-1]
        if has_bos:
            length_t[starts], whole_t[starts] = 0, True
        strings = string_t.tolist()
        spans = packing.span_rows(Lists(values_n=length_t, lengths_r=np.diff(bounds)))
        texts = []
        # Every context has a token.
        is_whole_c = np.logical_and.reduceat(whole_t, starts).tolist() if len(starts) else []
        for at, (is_whole, (low, high)) in enumerate(zip(is_whole_c, pairwise(bounds.tolist()), strict=True)):
            own = strings[low + has_bos : high]
            if is_whole:
                texts.append("".join([self._texts[string] for string in own]))
            else:
                text, start_t, end_t = joined([b""] * has_bos + [self._data[string] for string in own])
                texts.append(storable(text))
                spans[at] = packing.pack_spans(start_t, end_t)
        return texts, spans


def _is_whole(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
