"""One pass over a corpus for all features of all dictionaries of a model.

A pass has three steps. `read` cuts the corpus into contexts and these into shards; `make` runs the model over one shard
and writes its partial result with a checksum; `finish` adds the shards up, dictionary by dictionary. Any number of
processes that see the same folder may make shards, in any order, and take over from one that was killed: what comes out
depends on the contexts, the weights and the parameters only. `run_pass` does all three here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from inference.dashboards import allocator
from inference.dashboards.accumulators import ShardAccumulator
from inference.dashboards.budget import DEFAULT_BYTES, SHARD_TOKENS, Budget, features_of, peak_bytes
from inference.dashboards.columns import ColumnReader, ColumnWriter
from inference.dashboards.contexts import ContextIndex, ContextStore
from inference.dashboards.corpus import Cancelled, Reading
from inference.dashboards.encoding import Clock, ShardEncoder
from inference.dashboards.examples import Selection
from inference.dashboards.gathering import Stretch
from inference.dashboards.geometry import geometry_of
from inference.dashboards.merging import DictionaryShards, merged
from inference.dashboards.partials import CheckedFolder, joined
from inference.dashboards.places import Places
from inference.dashboards.provenance import facts_of, provenance_of
from inference.dashboards.results import ContextTable, DictionaryDashboard, DocumentRef, PassResult, Progress
from inference.dictionaries.dictionary import Dictionary
from inference.errors import Conflict, FacetError, InvalidInput
from inference.language_models import LanguageModel

Report = Callable[[Progress], None]
Stop = Callable[[], bool]


class NotRead(Conflict):
    """A pass whose corpus is yet to be read, or whose contexts were removed."""

    code = "corpus-not-read"


def silent(progress: Progress) -> None:
    """Report nothing."""


def never() -> bool:
    """Do not stop."""
    return False


class Pass:
    """A pass in a folder: `workdir` holds its contexts and its partial results, on a local path or an fsspec URL.

    `n_tokens` is a budget of text tokens; `precision` is the model's forward pass (float32, or bfloat16 by autocast),
    dictionaries always compute in their own type; `memory` is what the process may take. Raises DictionaryDoesNotFit
    and MemoryTooSmall, and WorkFolderUnusable whenever the folder cannot be used.
    """

    def __init__(
        self,
        model: LanguageModel,
        dictionaries: Mapping[str, Dictionary],
        documents: Sequence[DocumentRef],
        *,
        workdir: str | Path,
        contexts_dir: str | Path | None = None,
        n_tokens: int = 1_000_000,
        context_size: int = 128,
        shard_tokens: int = SHARD_TOKENS,
        batch_tokens: int = 2048,
        precision: str = "float32",
        memory: int = DEFAULT_BYTES,
    ) -> None:
        check(model, dictionaries)
        allocator.bound()
        allocator.give_back()  # what earlier work left is not what this pass stands on
        self.model, self.dictionaries, self.documents = model, dictionaries, documents
        self.batch_tokens, self.precision = batch_tokens, precision
        self.clock = Clock()
        self.budget = Budget.of(memory)
        self.groups = self.budget.groups(features_of(dictionaries))
        prepend_bos = all(dictionary.config.prepend_bos for dictionary in dictionaries.values())
        reading = Reading.of(model, n_tokens=n_tokens, context_size=context_size, prepend_bos=prepend_bos)
        self._workdir = workdir
        self._store = ContextStore(
            contexts_dir or joined(workdir, "contexts"), model, documents, reading, shard_tokens=shard_tokens
        )
        self._index: ContextIndex | None = None
        self._partials: CheckedFolder | None = None
        self._selections: dict[str, Selection] = {}
        self.facts: dict[str, Any] = {}
        # Shards that this process made.
        self.made = 0

    @property
    def index(self) -> ContextIndex:
        """What was read; raise NotRead before `read` or `find`."""
        if self._index is None:
            raise NotRead("The corpus has not been read.", "Start the build again.")
        return self._index

    @property
    def fingerprint(self) -> str:
        """The digest of everything that decides the result; equal in all processes that share a pass."""
        return self._folder.fingerprint

    @property
    def n_shards(self) -> int:
        return self.index.n_shards

    @property
    def skipped(self) -> int:
        return len(self.index.skipped)

    def find(self) -> bool:
        """Look for contexts that were read earlier, here or elsewhere; tell whether they are there."""
        with self.clock.stage("read"):
            index = self._store.index()
        if index is not None:
            self._know(index)
        return index is not None

    def read(self, progress: Report = silent, should_stop: Stop = never) -> None:
        """Read the corpus, unless that was done. Raises NothingToRead and Cancelled."""
        if self.find():
            return
        with self.clock.stage("read"):
            index = self._store.read(self.model, self.documents, progress=progress, should_stop=should_stop)
        allocator.give_back()
        self._know(index)

    def is_made(self, shard: int) -> bool:
        """Tell whether a shard's partial result is there, intact or not."""
        return self._folder.has(_key(shard))

    def make(self, shard: int, on_tokens: Callable[[int], None] = lambda n: None, should_stop: Stop = never) -> None:
        """Make a shard's partial result; tell `on_tokens` how many of its tokens are done.

        Raises Cancelled and ActivationsNotFinite.
        """
        stretch = self._stretch(shard)
        places = Places.of(stretch)
        per_group = stretch.n_text_tokens / len(self.groups)

        def write(writer: ColumnWriter) -> None:
            for number, group in enumerate(self.groups):
                with_all_before = number * per_group

                def on_batch(n_contexts: int, before: float = with_all_before) -> None:
                    on_tokens(int(before + per_group * n_contexts / len(stretch)))

                self._make_group(writer, group, stretch, places, on_batch, should_stop)

        with self.clock.stage("shards"):
            self._folder.save(_key(shard), write)
        allocator.give_back()
        self.made += 1

    def make_all(self, progress: Report = silent, should_stop: Stop = never) -> None:
        """Make every shard that is not there."""
        for shard in range(self.n_shards):
            if should_stop():
                raise Cancelled
            before = self.index.text_tokens(shard)
            message = f"shard {shard + 1} of {self.n_shards}"
            if not self.is_made(shard):

                def on_tokens(n: int, before: int = before, message: str = message) -> None:
                    progress(self.encoding(before + n, message))

                self.make(shard, on_tokens, should_stop)
            progress(self.encoding(self.index.text_tokens(shard + 1), message))

    def encoding(self, done: int, message: str) -> Progress:
        """Return how far the encoding is."""
        return Progress(phase="encode", done=done, total=self.index.n_tokens, unit="tokens", message=message)

    def contexts(self) -> ContextTable:
        """Return all contexts, mapped from a file."""
        with self.clock.stage("read"):
            table = self._store.table(self.index) or self._store.table(self._read_again())
        if table is None:
            raise _damaged_at_once()
        return table

    def finish(
        self, contexts: ContextTable, progress: Report = silent, should_stop: Stop = never
    ) -> Iterator[DictionaryDashboard]:
        """Add the shards up; yield one dictionary's dashboard after the other, so that one is in memory at a time."""
        self._selections.clear()
        steps = self.n_shards + sum(dictionary.n_features for dictionary in self.dictionaries.values())

        def step(done: int, message: str) -> None:
            if should_stop():
                raise Cancelled
            progress(Progress(phase="reduce", done=done, total=steps, unit="steps", message=message))

        shards: list[ColumnReader] = []
        for number in range(self.n_shards):
            with self.clock.stage("check"):
                shards.append(self._intact(number))
            step(number + 1, "checking shards")
        before = self.n_shards
        for place, (source, dictionary) in enumerate(self.dictionaries.items()):
            with self.clock.stage("weights"):
                geometry = geometry_of(self.model, dictionary)
            with self.clock.stage("merge"):
                dashboard = merged(
                    source,
                    DictionaryShards(shards, _prefix(place), dictionary.n_features),
                    index=self.index,
                    contexts=contexts,
                    geometry=geometry,
                    reconstructs=dictionary.config.reconstructs,
                    n_bytes=self.budget.merge_bytes,
                    step=lambda done, before=before, source=source: step(before + done, source),
                )
            before += dictionary.n_features
            allocator.give_back()
            yield dashboard

    def provenance(self) -> dict[str, Any]:
        """Return what pages say under their panels. JSON-ready."""
        return provenance_of(self.facts, self.model, self.dictionaries, self.index, self.fingerprint)

    def measurements(self, seconds: float) -> dict[str, Any]:
        """Return what differs between two equal passes."""
        return {
            "seconds": round(seconds, 3),
            "seconds_by_stage": {name: round(value, 3) for name, value in self.clock.seconds.items()},
            "tokens_per_second": round(self.index.n_tokens / max(seconds, 1e-9), 1),
            "resumed_shards": self.n_shards - self.made,
            "shards": self.n_shards,
            "peak_memory_bytes": peak_bytes(),
            "memory_budget_bytes": self.budget.total,
            "passes_over_a_shard": len(self.groups),
            "threads": torch.get_num_threads(),
            "device": str(self.model.device),
        }

    @property
    def _folder(self) -> CheckedFolder:
        self.index  # noqa: B018 - says what is wrong where nothing was read
        assert self._partials is not None
        return self._partials

    def _know(self, index: ContextIndex) -> None:
        self._index = index
        self.facts = facts_of(
            self.model, self.dictionaries, index, precision=self.precision, batch_tokens=self.batch_tokens
        )
        self._partials = CheckedFolder(joined(self._workdir, "shards"), self.facts)

    def _stretch(self, shard: int) -> Stretch:
        """Return the contexts of a shard, read again where they were damaged."""
        with self.clock.stage("read"):
            stretch = self._store.stretch(self.index, shard) or self._store.stretch(self._read_again(), shard)
        if stretch is None:
            raise _damaged_at_once()
        return stretch

    def _read_again(self) -> ContextIndex:
        self._know(self._store.read(self.model, self.documents))
        return self.index

    def _intact(self, shard: int) -> ColumnReader:
        """Return a shard's partial result, made again where it was damaged since it was written."""
        file = self._folder.load(_key(shard))
        if file is None:
            self.make(shard)
            file = self._folder.load(_key(shard))
        if file is None:
            raise _damaged_at_once()
        return file

    def _make_group(
        self,
        writer: ColumnWriter,
        group: list[str],
        stretch: Stretch,
        places: Places,
        on_batch: Callable[[int], None],
        should_stop: Stop,
    ) -> None:
        if len(self.groups) > 1:
            # What competes for examples is forgotten, which costs disk: only one group's fits in memory.
            self._selections.clear()
        accumulators = {}
        for source in group:
            dictionary = self.dictionaries[source]
            selection = self._selections.setdefault(source, Selection(range(dictionary.n_features)))
            accumulators[source] = ShardAccumulator(
                n_features=dictionary.n_features,
                d_out=dictionary.d_out,
                d_vocab=self.model.d_vocab,
                stretch=stretch,
                places=places,
                selection=selection,
                device=self.model.device,
            )
        encoder = ShardEncoder(
            self.model,
            {source: self.dictionaries[source] for source in group},
            stretch,
            accumulators,
            batch_contexts=max(1, self.batch_tokens // self.index.context_tokens),
            precision=self.precision,
            clock=self.clock,
        )
        encoder.encode(on_batch=on_batch, should_stop=should_stop)
        names = list(self.dictionaries)
        with self.clock.stage("write"):
            for source, accumulator in accumulators.items():
                accumulator.write(writer, _prefix(names.index(source)))


def run_pass(
    model: LanguageModel,
    dictionaries: Mapping[str, Dictionary],
    documents: Sequence[DocumentRef],
    *,
    workdir: str | Path,
    progress: Report = silent,
    should_stop: Stop = never,
    **options: Any,
) -> PassResult:
    """Run the model over documents and return the dashboards of all its dictionaries; `options` are those of Pass.

    Files stay in `workdir`, which the caller removes once the result is stored; what an earlier call left there is
    used. Raises what Pass and its steps raise.
    """
    started = time.perf_counter()
    running = Pass(model, dictionaries, documents, workdir=workdir, **options)
    running.read(progress, should_stop)
    running.make_all(progress, should_stop)
    contexts = running.contexts()
    dashboards = {dashboard.source: dashboard for dashboard in running.finish(contexts, progress, should_stop)}
    return PassResult(
        contexts=contexts,
        dashboards=dashboards,
        skipped=running.index.skipped,
        provenance=running.provenance(),
        measurements=running.measurements(time.perf_counter() - started),
    )


def check(model: LanguageModel, dictionaries: Mapping[str, Dictionary]) -> None:
    """Raise unless the dictionaries belong at places of the model."""
    if not dictionaries:
        raise InvalidInput("There is no dictionary to build.", "Choose at least one dictionary of the model.")
    for dictionary in dictionaries.values():
        model.check_fit(dictionary.config)


def _damaged_at_once() -> FacetError:
    return Conflict("A file that was just written is damaged.", "Check the disk, then resume the run.")


def _key(shard: int) -> str:
    return f"{shard:05d}"


def _prefix(place: int) -> str:
    return f"{place}."
