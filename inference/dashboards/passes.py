"""One pass over a corpus for all features of all dictionaries of a model.

Contexts are cut into shards. Each shard's result is written with a checksum before the next begins, so a pass that is
killed goes on behind its last finished shard, and a file that was damaged is made again. What comes out depends on the
contexts, the weights and the parameters only, never on which shards were resumed.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from inference.dashboards.accumulators import ShardAccumulator
from inference.dashboards.corpus import Cancelled, read_contexts
from inference.dashboards.encoding import Clock, ShardEncoder
from inference.dashboards.examples import Selection
from inference.dashboards.geometry import decoder_neighbours, logit_effects
from inference.dashboards.merging import DashboardBuilder, offer_partial
from inference.dashboards.partials import PartialStore
from inference.dashboards.places import Places
from inference.dashboards.provenance import facts_of, provenance_of
from inference.dashboards.results import (
    ContextTable,
    DictionaryDashboard,
    DocumentRef,
    PassResult,
    Progress,
)
from inference.dictionaries import check_fit
from inference.dictionaries.dictionary import Dictionary
from inference.errors import InvalidInput
from inference.language_models import LanguageModel


def run_pass(
    model: LanguageModel,
    dictionaries: Mapping[str, Dictionary],
    documents: Sequence[DocumentRef],
    *,
    workdir: str | Path,
    n_tokens: int = 1_000_000,
    context_size: int = 128,
    shard_tokens: int = 131_072,
    batch_tokens: int = 2048,
    precision: str = "float32",
    progress: Callable[[Progress], None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> PassResult:
    """Run the model over documents and return the dashboards of all its dictionaries.

    `n_tokens` is a budget of text tokens; `precision` is the model's forward pass (float32, or bfloat16 by autocast),
    dictionaries always compute in their own type. Partial results go to a folder of their own under `workdir`, which
    the caller removes once the result is stored. Raises Cancelled when `should_stop` says so, DictionaryDoesNotFit,
    ModelWithoutHead, NothingToRead, PassUnderWay, WorkFolderUnusable.
    """
    started, clock = time.perf_counter(), Clock()
    _check(model, dictionaries)
    with clock.stage("read"):
        contexts, skipped = read_contexts(
            model,
            documents,
            n_tokens=n_tokens,
            context_size=context_size,
            prepend_bos=all(dictionary.config.prepend_bos for dictionary in dictionaries.values()),
            progress=progress,
            should_stop=should_stop,
        )
    shards = _shards(contexts, shard_tokens)
    facts = facts_of(
        model, dictionaries, contexts, precision=precision, batch_tokens=batch_tokens, n_shards=len(shards)
    )
    store = PartialStore(Path(workdir), facts)
    running = _Pass(model, dictionaries, contexts, shards, store, clock, batch_tokens=batch_tokens, precision=precision)
    with store.owned():
        resumed = running.encode(progress, should_stop)
        dashboards = running.finish(progress, should_stop)
    seconds = time.perf_counter() - started
    measurements = {
        "seconds": round(seconds, 3),
        "seconds_by_stage": {name: round(value, 3) for name, value in clock.seconds.items()},
        "tokens_per_second": round(contexts.n_tokens / seconds, 1),
        "resumed_shards": resumed,
        "shards": len(shards),
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "threads": torch.get_num_threads(),
        "device": str(model.device),
    }
    return PassResult(
        contexts=contexts,
        dashboards=dashboards,
        skipped=skipped,
        provenance=provenance_of(facts, model, dictionaries, contexts, skipped, store.fingerprint),
        measurements=measurements,
    )


class _Pass:
    """The state of a pass: what its shards have in common."""

    def __init__(
        self,
        model: LanguageModel,
        dictionaries: Mapping[str, Dictionary],
        contexts: ContextTable,
        shards: list[range],
        store: PartialStore,
        clock: Clock,
        *,
        batch_tokens: int,
        precision: str,
    ) -> None:
        self.model, self.dictionaries, self.contexts = model, dictionaries, contexts
        self.shards, self.store, self.clock = shards, store, clock
        places = Places.of(contexts)
        self.selections = {source: Selection(d.n_features, places) for source, d in dictionaries.items()}
        self.encoder = ShardEncoder(
            model, dictionaries, contexts, batch_tokens=batch_tokens, precision=precision, clock=clock
        )

    def encode(self, progress: Callable[[Progress], None], should_stop: Callable[[], bool]) -> int:
        """Make every shard that is not there; return how many were."""
        done, resumed = 0, 0
        for number, span in enumerate(self.shards):
            if should_stop():
                raise Cancelled
            with self.clock.stage("resume"):
                arrays = self.store.load(number)
            if arrays is None:
                self._make(number, span, progress, should_stop)
            else:
                resumed += 1
                for source, mine in _split(arrays, self.dictionaries):
                    offer_partial(self.selections[source], mine)
            done = self._text_tokens(span.stop)
            progress(_encoding(done, self.contexts, f"shard {number + 1} of {len(self.shards)}"))
        return resumed

    def finish(
        self, progress: Callable[[Progress], None], should_stop: Callable[[], bool]
    ) -> dict[str, DictionaryDashboard]:
        """Add the shards up, choose the examples, look at the weights."""
        builders = {
            source: DashboardBuilder(
                source=source,
                n_features=dictionary.n_features,
                d_vocab=self.model.d_vocab,
                contexts=self.contexts,
                selection=self.selections[source],
            )
            for source, dictionary in self.dictionaries.items()
        }
        steps = 2 * len(self.shards) + len(builders)
        done = 0

        def step(unit_done: int, message: str) -> None:
            if should_stop():
                raise Cancelled
            progress(Progress(phase="reduce", done=unit_done, total=steps, unit="steps", message=message))

        with self.clock.stage("merge"):
            for method in (DashboardBuilder.add, DashboardBuilder.record):
                if method is DashboardBuilder.record:
                    for builder in builders.values():
                        builder.choose()
                for number in range(len(self.shards)):
                    for source, mine in _split(self._intact(number), builders):
                        method(builders[source], mine)
                    done += 1
                    step(done, "adding up shards" if method is DashboardBuilder.add else "collecting examples")
        dashboards = {}
        for source, builder in builders.items():
            with self.clock.stage("weights"):
                dictionary = self.dictionaries[source]
                neighbours, effects = decoder_neighbours(dictionary), logit_effects(self.model, dictionary)
            with self.clock.stage("merge"):
                dashboards[source] = builder.dashboard(neighbours, effects)
            done += 1
            step(done, source)
        return dashboards

    def _intact(self, number: int) -> dict[str, np.ndarray]:
        """Return a shard's arrays, made again where the file was damaged since it was written."""
        arrays = self.store.load(number)
        if arrays is None:
            self._make(number, self.shards[number], lambda _: None, lambda: False)
            arrays = self.store.load(number)
        return arrays

    def _make(
        self, number: int, span: range, progress: Callable[[Progress], None], should_stop: Callable[[], bool]
    ) -> None:
        accumulators = {
            source: ShardAccumulator(
                n_features=dictionary.n_features,
                d_out=dictionary.d_out,
                d_vocab=self.model.d_vocab,
                contexts=self.contexts,
                selection=self.selections[source],
            )
            for source, dictionary in self.dictionaries.items()
        }
        message = f"shard {number + 1} of {len(self.shards)}"
        self.encoder.encode(
            span,
            accumulators,
            on_batch=lambda n: progress(_encoding(self._text_tokens(span.start + n), self.contexts, message)),
            should_stop=should_stop,
        )
        arrays = {}
        with self.clock.stage("reduce"), ThreadPoolExecutor(max_workers=max(1, torch.get_num_threads())) as threads:
            # Dictionaries do not share anything, and NumPy lets go of the interpreter for most of the work.
            parts = threads.map(ShardAccumulator.arrays, accumulators.values())
            for place, part in enumerate(parts):
                arrays |= {f"{place}.{name}": array for name, array in part.items()}
        with self.clock.stage("write"):
            self.store.save(number, arrays)

    def _text_tokens(self, n_contexts: int) -> int:
        return int(self.contexts.indptr_c[n_contexts]) - n_contexts * self.contexts.has_bos


def _check(model: LanguageModel, dictionaries: Mapping[str, Dictionary]) -> None:
    if not dictionaries:
        raise InvalidInput("There is no dictionary to build.", "Choose at least one dictionary of the model.")
    model.check_causal()
    for dictionary in dictionaries.values():
        check_fit(
            dictionary.config,
            model_name=model.name,
            family=model.family.name,
            n_layers=model.n_layers,
            d_model=model.d_model,
            d_heads=model.n_heads * model.d_head,
            d_mlp=model.d_mlp,
        )


def _shards(contexts: ContextTable, shard_tokens: int) -> list[range]:
    """Cut contexts into spans of as many whole ones as fit; full contexts make spans of equal size."""
    widest = int(np.diff(contexts.indptr_c).max())
    size = max(1, shard_tokens // widest)
    return [range(start, min(start + size, len(contexts))) for start in range(0, len(contexts), size)]


def _split(arrays: Mapping[str, np.ndarray], sources: Mapping[str, Any]):
    for place, source in enumerate(sources):
        prefix = f"{place}."
        yield source, {name[len(prefix) :]: array for name, array in arrays.items() if name.startswith(prefix)}


def _encoding(done: int, contexts: ContextTable, message: str) -> Progress:
    return Progress(phase="encode", done=done, total=contexts.n_tokens, unit="tokens", message=message)
