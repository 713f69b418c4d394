"""The contexts of all shards, each once, with the ids of their tokens.

Suffixes: C contexts, T tokens of all contexts end to end.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from features.imports.shards import Shard
from features.imports.strings import is_special, joined
from features.words import storable
from inference import packing

_NAMED_LINE = re.compile(r"(.+):(\d{1,9})")
NO_DATASET = "not said"


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


@dataclass(slots=True, kw_only=True)
class Contexts:
    """All contexts of an import: first `gather`, then `rows`, which also writes the ids that the others index.

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

    def rows(self, tokens: Mapping[str, Token], d_vocab: int, *, dataset: str) -> Iterator[dict[str, Any]]:
        """Yield the columns of every context in order, and write their ids for `ids`."""
        with self._ids_path.open("wb") as ids_file, self._bounds_path.open("wb") as bounds_file:
            bound = 0
            bounds_file.write(np.int64(0).tobytes())
            for part in self.parts:
                indptr_c, token_t = part.array("indptr_c"), part.array("token_t")
                own = [tokens[string] for string in part.strings]
                id_of = np.array([token.id for token in own], dtype=np.uint32)
                origins = list(part.shard.lines(f"{part.number}.origins"))
                for local in part.new_c.tolist():
                    strings = token_t[indptr_c[local] : indptr_c[local + 1]]
                    ids = id_of[strings]
                    ids_file.write(ids.tobytes())
                    bound += len(ids)
                    bounds_file.write(np.int64(bound).tobytes())
                    pieces = [own[string].data for string in strings.tolist()]
                    if self.has_bos:
                        pieces[0] = b""
                    yield self._row(int(part.context_c[local]), ids, pieces, origins[local], d_vocab, dataset)

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
        for local, digest in enumerate(bytes(row) for row in digest_c):
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

    def _row(
        self, ordinal: int, ids: np.ndarray, pieces: list[bytes], origin: list[Any], d_vocab: int, dataset: str
    ) -> dict[str, Any]:
        source, place, held_out, n_similar = origin
        match = _NAMED_LINE.fullmatch(place)
        name = match[1] if match else source or dataset or NO_DATASET
        text, starts, ends = joined(pieces)
        return {
            "ordinal": ordinal,
            "document": self.documents.setdefault(name, len(self.documents)),
            "line": int(match[2]) if match else 0,
            "duplicate_of": ordinal,
            "n_similar": n_similar,
            "is_test": held_out,
            "text": storable(text),
            "token_ids": packing.pack_tokens(ids, d_vocab),
            "spans": packing.pack_spans(starts, ends),
        }
