"""The part of a pass that runs the model: from a shard's contexts to the accumulators of its dictionaries.

Only text tokens reach a dictionary: BOS and padding are dropped before the encoder, so that no statistic can see them.
Batches of a shard always begin at its first context, and contexts never share anything but a batch.

Shape suffixes: B contexts of a batch, T positions, D width of a hook point, N text tokens of a batch end to end,
F features.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy as np
import torch
from torch import Tensor

from inference.activations import capture
from inference.dashboards.accumulators import ShardAccumulator
from inference.dashboards.corpus import Cancelled
from inference.dashboards.results import ContextTable
from inference.dictionaries.dictionary import Dictionary
from inference.language_models import LanguageModel

# Pre-activations of one step of one dictionary, in numbers.
_STEP_ELEMENTS = 1 << 23


class Clock:
    """Seconds spent by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str):
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started


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
        for start in range(span.start, span.stop, self.batch_contexts):
            if should_stop():
                raise Cancelled
            self._encode_batch(range(start, min(start + self.batch_contexts, span.stop)), accumulators)
            on_batch(min(start + self.batch_contexts, span.stop) - span.start)

    def _encode_batch(self, batch: range, accumulators: Mapping[str, ShardAccumulator]) -> None:
        ids_bt, text_bt, token_n, lengths = self._batch(batch)
        with self.clock.stage("model"), _autocast(self.precision, self.model.device):
            captured = capture(self.model, ids_bt, self.hooks)
        text_of = {name: x_btd[text_bt].float() for name, x_btd in captured.items()}
        for source, dictionary in self.dictionaries.items():
            x_nd, y_no = text_of[dictionary.hook_in], text_of[dictionary.hook_out]
            rows = max(1, _STEP_ELEMENTS // dictionary.n_features)
            first = 0
            for some in _context_groups(lengths, rows):
                n = sum(lengths[some.start : some.stop])
                step = slice(first, first + n)
                first += n
                self._encode_step(
                    dictionary,
                    accumulators[source],
                    x_nd[step],
                    y_no[step],
                    token_n[step],
                    [batch.start + number for number in some],
                    lengths[some.start : some.stop],
                )

    @torch.inference_mode()
    def _encode_step(
        self,
        dictionary: Dictionary,
        accumulator: ShardAccumulator,
        x_nd: Tensor,
        y_no: Tensor,
        token_n: np.ndarray,
        contexts: list[int],
        lengths: list[int],
    ) -> None:
        with self.clock.stage("encode"):
            h_nf = dictionary.pre_activations(x_nd)
            activations = dictionary.activate(h_nf)
            feature_e = activations.indices_n.cpu().numpy()
            firing_n = activations.counts_t.cpu().numpy()
            accumulator.add_activations(feature_e, activations.values_n.float().cpu().numpy(), firing_n, token_n)
        with self.clock.stage("decode"):
            y_hat_no = dictionary.decode(activations, x_nd).double()
            y_no = y_no.double()
            accumulator.add_errors(
                float((y_no - y_hat_no).square().sum()), float(y_no.square().sum()), y_no.sum(0).cpu().numpy()
            )
        with self.clock.stage("silent"):
            self._offer_silent(accumulator, h_nf, feature_e, firing_n, contexts, lengths)

    def _offer_silent(
        self,
        accumulator: ShardAccumulator,
        h_nf: Tensor,
        feature_e: np.ndarray,
        firing_n: np.ndarray,
        contexts: list[int],
        lengths: list[int],
    ) -> None:
        selection, bos = accumulator.selection, int(self.contexts.has_bos)
        event_stops = np.cumsum(firing_n)
        first = event_first = 0
        for context, h_tf in zip(contexts, h_nf.split(lengths), strict=True):
            first += len(h_tf)
            silent_f = np.ones(h_tf.shape[1], dtype=bool)
            event_stop = int(event_stops[first - 1])
            silent_f[feature_e[event_first:event_stop]] = False
            event_first = event_stop
            height_f = h_tf.amax(0).float().cpu().numpy()
            hard = selection.hard_admits(context, height_f, silent_f)
            near = torch.as_tensor(hard, device=h_tf.device)
            position = h_tf[:, near].argmax(0).cpu().numpy() + bos
            random = selection.random_admits(context, silent_f)
            here = np.full(len(hard), context, dtype=np.int32)
            there = np.full(len(random), context, dtype=np.int32)
            selection.offer_hard(hard, here, position, height_f[hard])
            selection.offer_random(random, there)
            accumulator.add_silent(
                hard_feature=hard.astype(np.int32),
                hard_context=here,
                hard_position=position.astype(np.uint16),
                hard_value=height_f[hard],
                random_feature=random.astype(np.int32),
                random_context=there,
            )

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
