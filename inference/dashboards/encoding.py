"""The part of a pass that runs the model: from a shard's contexts to the accumulators of its dictionaries.

Only text tokens reach a dictionary: BOS and padding are dropped before the encoder, so that no statistic can see them;
encoders of sequences see a context's BOS, and what they say of it is dropped.
On a CPU each core takes batches of its own, on one thread: cores that share every operation wait for each other at
each, and the digits would depend on their number. What batches give is taken in their order, and what has gathered of
it is reduced, in this order too, while the next batches are under way; who may use one thread does it in between.

Shape suffixes: B contexts of a batch, T positions, D width of a hook point, N tokens of a batch end to end, C contexts,
F features, O output width, E activations above zero, S silent contexts of features.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from inference.activations import capture
from inference.dashboards.accumulators import Activated, ShardAccumulator
from inference.dashboards.corpus import Cancelled
from inference.dashboards.examples import Selection
from inference.dashboards.gathering import Stretch
from inference.dictionaries.dictionary import Dictionary
from inference.dictionaries.sparse import SparseActivations
from inference.errors import InvalidInput
from inference.language_models import LanguageModel
from kernels.encode_maximum import Heights

# Pre-activations of one step of one dictionary, in numbers.
_STEP_ELEMENTS = 1 << 23


class ActivationsNotFinite(InvalidInput):
    """A model or a dictionary that computes infinities or what is not a number: no statistic would mean anything."""

    code = "activations-not-finite"


class Clock:
    """Seconds spent by stage, added up over threads."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._lock = threading.Lock()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - started
            with self._lock:
                self.seconds[name] = self.seconds.get(name, 0.0) + spent


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """What one dictionary says of some contexts of a batch. S: contexts where features are silent, one a feature."""

    source: str
    contexts: range
    place_n: np.ndarray
    activations: SparseActivations
    l0_n: np.ndarray
    squared_error: float
    y_squared: float
    y_sum_o: np.ndarray
    relative_error_n: np.ndarray
    hard_s: dict[str, np.ndarray]
    random_s: dict[str, np.ndarray]


class ShardEncoder:
    """Runs the model over a stretch of contexts and feeds what its dictionaries say into accumulators."""

    def __init__(
        self,
        model: LanguageModel,
        dictionaries: Mapping[str, Dictionary],
        stretch: Stretch,
        accumulators: Mapping[str, ShardAccumulator],
        *,
        batch_contexts: int,
        precision: str,
        clock: Clock,
    ) -> None:
        self.model = model
        self.dictionaries = dictionaries
        self.stretch = stretch
        self.accumulators = accumulators
        self.batch_contexts = batch_contexts
        self.precision = precision
        self.clock = clock
        self.hooks = [name for d in dictionaries.values() for name in (d.hook_in, d.hook_out)]
        self._number_c = stretch.first_context + np.arange(len(stretch), dtype=np.int32)
        self._eligible_c = stretch.duplicate_of_c == self._number_c

    def encode(self, *, on_batch: Callable[[int], None], should_stop: Callable[[], bool]) -> None:
        """Encode all contexts; tell `on_batch` how many are done. Raises Cancelled and ActivationsNotFinite."""
        starts = range(0, len(self.stretch), self.batch_contexts)
        batches = [range(start, min(start + self.batch_contexts, len(self.stretch))) for start in starts]
        with _one_thread_each(self.model.device) as (pool, count), _Reductions(count, self.clock) as reductions:
            for batch, steps in zip(batches, _in_order(pool, count, self._encode_batch, batches), strict=True):
                for step in steps:
                    self._take(step, self.accumulators[step.source])
                    reductions.follow(self.accumulators[step.source])
                if should_stop():
                    raise Cancelled
                on_batch(batch.stop)
            for accumulator in self.accumulators.values():
                reductions.begin(accumulator)

    def _encode_batch(self, batch: range) -> list[_Step]:
        ids_bt, inside_bt, place_bt = self._batch(batch)
        with self.clock.stage("model"), _autocast(self.precision, self.model.device):
            captured = capture(self.model, ids_bt, self.hooks)
        device = self.model.device
        inside_of = torch.from_numpy(inside_bt).to(device)
        # Every token of the batch end to end, BOS included: encoders of sequences see them all.
        at_hook = {name: x_btd[inside_of].float() for name, x_btd in captured.items()}
        lengths = inside_bt.sum(1).tolist()
        place_n = place_bt[inside_bt]
        is_text_n = np.concatenate([np.arange(length) >= int(self.stretch.has_bos) for length in lengths])
        steps = []
        for source, dictionary in self.dictionaries.items():
            first = 0
            for some in _context_groups(lengths, max(1, _STEP_ELEMENTS // dictionary.n_features)):
                own = lengths[some.start : some.stop]
                rows = slice(first, first + sum(own))
                first = rows.stop
                steps.append(
                    self._encode_step(
                        source,
                        at_hook[dictionary.hook_in][rows],
                        at_hook[dictionary.hook_out][rows],
                        place_n[rows],
                        is_text_n[rows],
                        range(batch.start + some.start, batch.start + some.stop),
                        own,
                    )
                )
        return steps

    @torch.inference_mode()
    def _encode_step(
        self,
        source: str,
        x_nd: Tensor,
        y_no: Tensor,
        place_n: np.ndarray,
        is_text_n: np.ndarray,
        contexts: range,
        lengths: list[int],
    ) -> _Step:
        dictionary = self.dictionaries[source]
        text_n = torch.from_numpy(is_text_n).to(x_nd.device)
        skipped = int(self.stretch.has_bos)
        sequences = {"lengths": lengths} if dictionary.config.is_sequential else {}
        if not sequences:
            x_nd = x_nd[text_n]
        spans = _spans(lengths, before=skipped if sequences else 0, left_out=skipped)
        with self.clock.stage("encode"):
            activations, heights = dictionary.encode_with_heights(x_nd, spans, **sequences)
        with self.clock.stage("decode"):
            errors = self._errors(dictionary, activations, x_nd, y_no[text_n], text_n, sequences)
        if sequences:
            activations = activations.rows(text_n)
        context_n = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths) - skipped).to(x_nd.device)
        with self.clock.stage("silent"):
            silent = self._silent(source, activations, heights, contexts, context_n, spans)
        return _Step(
            source=source,
            contexts=contexts,
            place_n=place_n[is_text_n],
            activations=_positive(activations),
            l0_n=activations.counts_t.cpu().numpy(),
            **errors,
            **silent,
        )

    def _errors(
        self,
        dictionary: Dictionary,
        activations: SparseActivations,
        x_nd: Tensor,
        y_no: Tensor,
        text_n: Tensor,
        sequences: dict[str, list[int]],
    ) -> dict[str, Any]:
        """Return what the reconstruction misses of y at tokens of text; all of y where nothing reconstructs it."""
        y_no = y_no.double()
        if dictionary.config.reconstructs:
            y_hat_no = dictionary.decode(activations, x_nd, **sequences)
            missed_n = (y_no - (y_hat_no[text_n] if sequences else y_hat_no).double()).square().sum(1)
        else:
            missed_n = y_no.square().sum(1)
        squared_n = y_no.square().sum(1)
        return {
            "squared_error": float(missed_n.sum()),
            "y_squared": float(squared_n.sum()),
            "y_sum_o": y_no.sum(0).cpu().numpy(),
            "relative_error_n": (missed_n / squared_n.clamp(min=1e-30)).sqrt().cpu().numpy(),
        }

    def _silent(
        self,
        source: str,
        activations: SparseActivations,
        heights: Heights,
        contexts: range,
        context_n: Tensor,
        spans: list[tuple[int, int]],
    ) -> dict[str, dict[str, np.ndarray]]:
        """Return candidates for silent examples: contexts where features do not fire at all.

        What the selection holds at this moment only decides how many candidates are offered in vain: which have their
        heights computed, never what these are.
        """
        selection = self.accumulators[source].selection
        highest_cf = heights.highest_cf
        silent_cf = torch.ones(highest_cf.shape, dtype=torch.bool, device=highest_cf.device)
        silent_cf[context_n.repeat_interleave(activations.counts_t), activations.indices_n] = False
        numbers = self._number_c[contexts.start : contexts.stop]
        silent_cf &= torch.from_numpy(self._eligible_c[contexts.start : contexts.stop, None]).to(silent_cf.device)
        offered_cf = silent_cf.cpu().numpy()
        # Nearly all are refused: whole rows are looked at before any pair of a context and a feature is named.
        row, drawn = np.nonzero(selection.random_may_admit(numbers) & offered_cf)
        random = {"feature": drawn.astype(np.int32), "context": numbers[row]}
        if highest_cf.is_cuda:
            row, feature, bound = near_on_device(selection, highest_cf, silent_cf)
        else:
            row, feature = np.nonzero(selection.hard_may_admit(highest_cf.numpy()) & offered_cf)
            bound = highest_cf.numpy()[row, feature]
        near = np.flatnonzero(selection.hard_admits(feature, numbers[row], bound))
        row, feature = row[near], feature[near]
        height, token = (
            column.cpu().numpy()
            for column in heights.exact(
                torch.from_numpy(row).to(highest_cf.device), torch.from_numpy(feature).to(highest_cf.device)
            )
        )
        position = token - np.array([first for first, _ in spans])[row] + int(self.stretch.has_bos)
        return {
            "random_s": _chosen(random, selection.random_admits, "feature", "context"),
            "hard_s": {
                "feature": feature.astype(np.int32),
                "context": numbers[row],
                "position": position.astype(np.uint16),
                "value": height,
            },
        }

    def _take(self, step: _Step, accumulator: ShardAccumulator) -> None:
        if not (math.isfinite(step.squared_error) and bool(step.activations.values_n.isfinite().all())):
            first = self.stretch.first_context
            raise ActivationsNotFinite(
                f"{step.source} does not give finite numbers in contexts {first + step.contexts.start} to"
                f" {first + step.contexts.stop - 1}.",
                "Check the weights of the model and the dictionary, or compute in float32.",
                source=step.source,
                document=int(self.stretch.document_c[step.contexts.start]),
            )
        with self.clock.stage("reduce"):
            accumulator.add_activations(step.activations, step.l0_n, step.place_n)
            accumulator.add_errors(step.squared_error, step.y_squared, step.y_sum_o, step.relative_error_n)
        with self.clock.stage("silent"):
            selection = accumulator.selection
            hard = _chosen(step.hard_s, selection.hard_admits, "feature", "context", "value")
            selection.offer_hard(hard["feature"], hard["context"], hard["position"], hard["value"])
            accumulator.add_hard(**hard)
            random = _chosen(step.random_s, selection.random_admits, "feature", "context")
            selection.offer_random(random["feature"], random["context"])
            accumulator.add_random(**random)

    def _batch(self, batch: range) -> tuple[Tensor, np.ndarray, np.ndarray]:
        """Return `(ids_bt, inside_bt, place_bt)`: padding is on the right, where nothing sees it."""
        indptr = self.stretch.indptr_c
        starts, stops = indptr[batch.start : batch.stop], indptr[batch.start + 1 : batch.stop + 1]
        place_bt = starts[:, None] + np.arange(int((stops - starts).max()))
        inside_bt = place_bt < stops[:, None]
        ids_bt = np.where(inside_bt, self.stretch.token_ids_t[np.where(inside_bt, place_bt, 0)], 0).astype(np.int64)
        return torch.from_numpy(ids_bt).to(self.model.device), inside_bt, place_bt


class _Reductions:
    """Reductions in threads of their own, unless there is to be one thread: one at a time of each dictionary, so that
    what waits stays bounded.

    Leaving waits for all of them and raises what one raised.
    """

    def __init__(self, threads: int, clock: Clock) -> None:
        self.clock = clock
        self._pool = ThreadPoolExecutor(threads, initializer=partial(torch.set_num_threads, 1)) if threads > 1 else None
        self._running: dict[ShardAccumulator, Future] = {}

    def __enter__(self) -> _Reductions:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=kind is not None)
        if kind is None:
            for reduction in self._running.values():
                reduction.result()

    def follow(self, accumulator: ShardAccumulator) -> None:
        """Reduce what has gathered if it is enough."""
        if accumulator.has_enough:
            self.begin(accumulator)

    def begin(self, accumulator: ShardAccumulator) -> None:
        """Reduce what has gathered, after what had before."""
        if self._pool is None:
            self._reduce(accumulator, accumulator.take_gathered())
            return
        if accumulator in self._running:
            self._running[accumulator].result()
        self._running[accumulator] = self._pool.submit(self._reduce, accumulator, accumulator.take_gathered())

    def _reduce(self, accumulator: ShardAccumulator, waiting: list[Activated]) -> None:
        with self.clock.stage("reduce"):
            accumulator.reduce(waiting)


def _chosen(columns: dict[str, np.ndarray], admits: Callable[..., np.ndarray], *names: str) -> dict[str, np.ndarray]:
    """Return the rows of columns that are still admitted."""
    rows = np.flatnonzero(admits(*(columns[name] for name in names)))
    return {name: column[rows] for name, column in columns.items()}


def _positive(activations: SparseActivations) -> SparseActivations:
    """Leave activations below zero out: some architectures have them, and dashboards show the positive side."""
    positive_e = activations.values_n > 0
    if bool(positive_e.all()):
        return activations
    ends = functional.pad(positive_e.cumsum(0), (1, 0))
    return SparseActivations(
        ends[activations.indptr],
        activations.indices_n[positive_e],
        activations.values_n[positive_e],
        activations.n_features,
    )


def _spans(lengths: list[int], *, before: int, left_out: int) -> list[tuple[int, int]]:
    """Return the rows of each context's text: of `left_out` tokens that are none, `before` lie in front of it."""
    spans, start = [], 0
    for length in lengths:
        stop = start + before + length - left_out
        spans.append((start + before, stop))
        start = stop
    return spans


def _in_order(
    pool: ThreadPoolExecutor, count: int, work: Callable[[range], list[_Step]], batches: Iterable[range]
) -> Iterator[list[_Step]]:
    """Yield the results of batches in their order, with as many under way as there are threads, and one more."""
    waiting: deque[Future] = deque()
    try:
        for batch in batches:
            waiting.append(pool.submit(work, batch))
            if len(waiting) > count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def near_on_device(selection: Selection, highest_cf: Tensor, offered_cf: Tensor) -> tuple[np.ndarray, ...]:
    """Return the contexts, features and bounds that silent examples may come from, as arrays on the host.

    Of a step's heights, four bytes for each feature in each context, these alone leave the device.
    """
    row, feature = (selection.hard_may_admit(highest_cf) & offered_cf).nonzero(as_tuple=True)
    return row.cpu().numpy(), feature.cpu().numpy(), highest_cf[row, feature].cpu().numpy()


@contextmanager
def _one_thread_each(device: torch.device) -> Iterator[tuple[ThreadPoolExecutor, int]]:
    """Yield a pool with a thread for each core and their number; operations are not shared among cores meanwhile."""
    threads = torch.get_num_threads()
    count = threads if device.type == "cpu" else 1
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(count, initializer=partial(torch.set_num_threads, 1)) as pool:
            yield pool, count
    finally:
        torch.set_num_threads(threads)


def _context_groups(lengths: list[int], rows: int) -> list[range]:
    """Cut a batch into runs of whole contexts of at most `rows` tokens, or of one context."""
    groups, start, filled = [], 0, 0
    for number, length in enumerate(lengths):
        if number > start and filled + length > rows:
            groups.append(range(start, number))
            start, filled = number, 0
        filled += length
    return [*groups, range(start, len(lengths))]


def _autocast(precision: str, device: torch.device) -> AbstractContextManager:
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, precision))
