"""The part of a pass that runs the model: from a shard's contexts to the accumulators of its dictionaries.

Only text tokens reach a dictionary: BOS and padding are dropped before the encoder, so that no statistic can see them.
On a CPU each core takes batches of its own, on one thread: cores that share every operation wait for each other at
each, and the digits would depend on their number. What batches give is taken in their order.

Shape suffixes: B contexts of a batch, T positions, D width of a hook point, N text tokens of a batch end to end,
F features, O output width, E activations above zero.
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

import numpy as np
import torch
from torch import Tensor

from inference.activations import capture
from inference.dashboards.accumulators import ShardAccumulator
from inference.dashboards.corpus import Cancelled
from inference.dashboards.results import ContextTable
from inference.dictionaries.dictionary import Dictionary
from inference.errors import InvalidInput
from inference.language_models import LanguageModel

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
    """What one dictionary says of some contexts of a batch."""

    source: str
    context_c: np.ndarray
    lengths: list[int]
    token_n: np.ndarray
    feature_e: np.ndarray
    value_e: np.ndarray
    firing_n: np.ndarray
    l0_n: np.ndarray
    silent_cf: np.ndarray
    squared_error: float
    y_squared: float
    y_sum_o: np.ndarray
    height_cf: np.ndarray
    h_nf: Tensor


class ShardEncoder:
    """Runs the model over contexts and feeds what its dictionaries say into accumulators."""

    def __init__(
        self,
        model: LanguageModel,
        dictionaries: Mapping[str, Dictionary],
        contexts: ContextTable,
        *,
        batch_tokens: int,
        precision: str,
        clock: Clock,
    ) -> None:
        self.model = model
        self.dictionaries = dictionaries
        self.contexts = contexts
        self.precision = precision
        self.clock = clock
        self.hooks = [name for d in dictionaries.values() for name in (d.hook_in, d.hook_out)]
        widest = int(np.diff(contexts.indptr_c).max())
        self.batch_contexts = max(1, batch_tokens // widest)

    def encode(
        self,
        span: range,
        accumulators: Mapping[str, ShardAccumulator],
        *,
        on_batch: Callable[[int], None],
        should_stop: Callable[[], bool],
    ) -> None:
        """Encode the contexts of a span; tell `on_batch` how many contexts are done. Raises Cancelled."""
        starts = range(span.start, span.stop, self.batch_contexts)
        batches = [range(start, min(start + self.batch_contexts, span.stop)) for start in starts]
        with _one_thread_each(self.model.device) as (pool, count):
            for batch, steps in zip(batches, _in_order(pool, count, self._encode_batch, batches), strict=True):
                for step in steps:
                    self._take(step, accumulators[step.source])
                if should_stop():
                    raise Cancelled
                on_batch(batch.stop - span.start)

    def _encode_batch(self, batch: range) -> list[_Step]:
        ids_bt, text_bt, token_n, lengths = self._batch(batch)
        with self.clock.stage("model"), _autocast(self.precision, self.model.device):
            captured = capture(self.model, ids_bt, self.hooks)
        text_of = {name: x_btd[text_bt].float() for name, x_btd in captured.items()}
        steps = []
        for source, dictionary in self.dictionaries.items():
            x_nd, y_no = text_of[dictionary.hook_in], text_of[dictionary.hook_out]
            first = 0
            for some in _context_groups(lengths, max(1, _STEP_ELEMENTS // dictionary.n_features)):
                own = lengths[some.start : some.stop]
                rows = slice(first, first + sum(own))
                first = rows.stop
                context_c = np.arange(batch.start + some.start, batch.start + some.stop, dtype=np.int32)
                steps.append(self._encode_step(source, x_nd[rows], y_no[rows], token_n[rows], context_c, own))
        return steps

    @torch.inference_mode()
    def _encode_step(
        self, source: str, x_nd: Tensor, y_no: Tensor, token_n: np.ndarray, context_c: np.ndarray, lengths: list[int]
    ) -> _Step:
        dictionary = self.dictionaries[source]
        with self.clock.stage("encode"):
            h_nf = dictionary.pre_activations(x_nd)
            activations = dictionary.activate(h_nf, x_nd)
            height_cf = torch.stack([h_tf.amax(0) for h_tf in h_nf.split(lengths)]).float().cpu().numpy()
        with self.clock.stage("decode"):
            y_hat_no = dictionary.decode(activations, x_nd).double()
            y_no = y_no.double()
            squared_error = float((y_no - y_hat_no).square().sum())
        feature_e, value_e = activations.indices_n.cpu().numpy(), activations.values_n.float().cpu().numpy()
        l0_n = activations.counts_t.cpu().numpy()
        context_n = np.repeat(np.arange(len(lengths)), lengths)
        silent_cf = np.ones(height_cf.shape, dtype=bool)
        silent_cf[np.repeat(context_n, l0_n), feature_e] = False
        feature_e, value_e, firing_n = _positive(feature_e, value_e, l0_n)
        return _Step(
            source=source,
            context_c=context_c,
            lengths=lengths,
            token_n=token_n,
            feature_e=feature_e,
            value_e=value_e,
            firing_n=firing_n,
            l0_n=l0_n,
            silent_cf=silent_cf,
            squared_error=squared_error,
            y_squared=float(y_no.square().sum()),
            y_sum_o=y_no.sum(0).cpu().numpy(),
            height_cf=height_cf,
            h_nf=h_nf,
        )

    def _take(self, step: _Step, accumulator: ShardAccumulator) -> None:
        if not math.isfinite(step.squared_error):
            raise ActivationsNotFinite(
                f"{step.source} does not give finite numbers in contexts {step.context_c[0]} to {step.context_c[-1]}.",
                "Check the weights of the model and the dictionary, or compute in float32.",
                source=step.source,
                document=int(self.contexts.document_c[step.context_c[0]]),
            )
        with self.clock.stage("reduce"):
            accumulator.add_activations(step.feature_e, step.value_e, step.firing_n, step.l0_n, step.token_n)
            accumulator.add_errors(step.squared_error, step.y_squared, step.y_sum_o)
        with self.clock.stage("silent"):
            self._offer_silent(step, accumulator)

    def _offer_silent(self, step: _Step, accumulator: ShardAccumulator) -> None:
        selection = accumulator.selection
        row, feature = selection.hard_admits(step.context_c, step.height_cf, step.silent_cf)
        position = self._highest(step, row, feature)
        hard_context, hard_value = step.context_c[row], step.height_cf[row, feature]
        selection.offer_hard(feature, hard_context, position, hard_value)
        drawn_row, drawn_feature = selection.random_admits(step.context_c, step.silent_cf)
        drawn_context = step.context_c[drawn_row]
        selection.offer_random(drawn_feature, drawn_context)
        accumulator.add_silent(
            hard_feature=feature.astype(np.int32),
            hard_context=hard_context,
            hard_position=position.astype(np.uint16),
            hard_value=hard_value,
            random_feature=drawn_feature.astype(np.int32),
            random_context=drawn_context,
        )

    def _highest(self, step: _Step, row: np.ndarray, feature: np.ndarray) -> np.ndarray:
        """Return where, in contexts given by ascending row, features have their highest pre-activation."""
        positions = [np.zeros(0, dtype=np.int64)]
        parts = step.h_nf.split(step.lengths)
        for number in np.unique(row):
            near = torch.as_tensor(feature[row == number], device=step.h_nf.device)
            positions.append(parts[number][:, near].argmax(0).cpu().numpy())
        return np.concatenate(positions) + int(self.contexts.has_bos)

    def _batch(self, batch: range) -> tuple[Tensor, Tensor, np.ndarray, list[int]]:
        """Return `(ids_bt, text_bt, token_n, text lengths)`: padding is on the right, where nothing sees it."""
        indptr = self.contexts.indptr_c
        starts, stops = indptr[batch.start : batch.stop], indptr[batch.start + 1 : batch.stop + 1]
        position_t = np.arange(int((stops - starts).max()))
        token_bt = starts[:, None] + position_t
        inside_bt = token_bt < stops[:, None]
        ids_bt = np.where(inside_bt, self.contexts.token_ids_t[np.where(inside_bt, token_bt, 0)], 0).astype(np.int64)
        text_bt = inside_bt & (position_t >= int(self.contexts.has_bos))
        device = self.model.device
        return (
            torch.from_numpy(ids_bt).to(device),
            torch.from_numpy(text_bt).to(device),
            token_bt[text_bt],
            text_bt.sum(1).tolist(),
        )


def _positive(
    feature_e: np.ndarray, value_e: np.ndarray, firing_n: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Leave activations below zero out: some architectures have them, and dashboards show the positive side."""
    positive_e = value_e > 0
    if positive_e.all():
        return feature_e, value_e, firing_n
    row_e = np.repeat(np.arange(len(firing_n)), firing_n)
    firing_n = np.bincount(row_e[positive_e], minlength=len(firing_n))
    return feature_e[positive_e], value_e[positive_e], firing_n


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
