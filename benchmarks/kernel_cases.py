"""What kernels are measured on: for each one a computation of ours, one of torch's, and what any must cost.

Weights and inputs are random and normal, never zero: chips clock higher on zeros. Widths and sizes are those of the
demonstration's dictionaries (192 to 2,048), of GPT-2's (768 to 24,576) and of Gemma Scope's (2,304 to 16,384 and
65,536). About 64 features fire at a token.

Shape suffixes: T tokens, D width, F features, K kept, M chosen, N activations, E events, C contexts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.kernel_trials import weights_first
from kernels.bounds import InBfloat16, InBytes
from kernels.cooccurrence import cooccurrence
from kernels.encode_features import encode_features
from kernels.encode_maximum import encode_maximum
from kernels.encode_threshold import above_of, encode_threshold
from kernels.encode_topk import best_of, encode_topk
from kernels.event_stats import by_feature, event_stats
from kernels.extremes import extremes
from kernels.gather_dot import gather_dot
from kernels.neighbours import neighbours
from kernels.products import Product
from kernels.screening import Screen, Use
from kernels.source_attribution import reference as dense_attribution
from kernels.source_attribution import source_attribution
from kernels.sparse_decode import sparse_decode
from kernels.stream_topn import stream_topn, value_ranks

SIZES = ((192, 2_048, 32), (768, 24_576, 64), (2_304, 16_384, 64))
GPU_SIZES = (*SIZES, (2_304, 65_536, 64), (4_096, 131_072, 128))
FORMATS = {"8-bit": InBytes, "bfloat16": InBfloat16}
TOKENS, GPU_TOKENS = (1, 8, 16, 256), (1, 16, 128, 1_024, 8_192)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One kernel at one shape. `agrees` says whether a result of ours is right, given torch's."""

    kernel: str
    shape: str
    ours: Callable[[], Any]
    peer: str
    torch: Callable[[], Any]
    agrees: Callable[[Any, Any], bool]
    flops: float
    n_bytes: float
    used: bool = True


def cases(device: torch.device) -> Iterator[Case]:
    """Yield the cases for a device, one at a time: each size's weights are let go before the next."""
    on_gpu = device.type == "cuda"
    torch.manual_seed(0)
    for d, f, k in GPU_SIZES if on_gpu else SIZES:
        dtypes = (torch.float32, torch.bfloat16) if on_gpu else (torch.float32,)
        for dtype in dtypes:
            w_fd = (torch.randn(f, d, device=device) / d**0.5).to(dtype)
            for t in GPU_TOKENS if on_gpu else TOKENS:
                yield from _encoders(torch.randn(t, d, device=device).to(dtype), w_fd, k)
            yield from _weights(w_fd)
    yield from _streams(device)


def _encoders(x_td: Tensor, w_fd: Tensor, k: int) -> Iterator[Case]:
    (t, d), f = x_td.shape, len(w_fd)
    b_f = torch.zeros(f, dtype=w_fd.dtype, device=w_fd.device)
    # The share of a normal distribution above it is k in F.
    level = float(torch.distributions.Normal(0, 1).icdf(torch.tensor(1 - k / f)))
    threshold_f = torch.full((f,), level, device=w_fd.device)
    shape = f"{t:,} x {d:,} x {f:,}{' bf16' if w_fd.dtype == torch.bfloat16 else ''}"
    dense = {"flops": 2 * t * d * f, "n_bytes": (f * d + t * d) * w_fd.element_size() + 12 * t * k}
    common = {"shape": shape, **dense}

    def dense_topk():
        h_tf = torch.addmm(b_f, x_td, w_fd.T)
        return *h_tf.topk(k, dim=1), (~h_tf.isfinite()).sum(1)

    def dense_threshold():
        h_tf = torch.addmm(b_f, x_td, w_fd.T)
        token_n, index_n = (h_tf > threshold_f).nonzero(as_tuple=True)
        counts_t = torch.bincount(token_n, minlength=t)
        return counts_t, index_n, h_tf[token_n, index_n], (~h_tf.isfinite()).sum(1)

    def same_topk(ours, theirs):
        return torch.allclose(ours.values_tk.float(), theirs[0].float(), atol=0.05 if dense_is_rough else 1e-4)

    def same_rows(ours, theirs):
        rows = (theirs[2] > level + 0.05).sum()
        return abs(int((ours.values_n > level + 0.05).sum()) - int(rows)) <= (0.02 * rows if dense_is_rough else 0)

    dense_is_rough = w_fd.dtype == torch.bfloat16
    topk = {"peer": "addmm, topk, count", "torch": dense_topk, "agrees": same_topk}
    threshold = {"peer": "addmm, >, nonzero, count", "torch": dense_threshold, "agrees": same_rows}
    by_best = Product(x_td=x_td, w_fd=w_fd, b_f=b_f, screen=Screen.of(w_fd, b_f))
    by_level = Product(x_td=x_td, w_fd=w_fd, b_f=b_f, screen=Screen.of(w_fd, b_f - threshold_f))
    best_of(by_best, k), above_of(by_level, threshold_f)
    yield Case(
        kernel="encode_topk",
        ours=lambda: encode_topk(x_td, w_fd, b_f, k),
        used=not _is_served(by_best),
        **topk,
        **common,
    )
    yield Case(
        kernel="encode_threshold",
        ours=lambda: encode_threshold(x_td, w_fd, b_f, threshold_f),
        used=not _is_served(by_level),
        **threshold,
        **common,
    )
    for name, format in FORMATS.items():
        # On a GPU, where no screen serves yet, one in bfloat16 is measured.
        if not (format.suits(w_fd) or (w_fd.is_cuda and format is InBfloat16 and not dense_is_rough)):
            continue
        use = (Use(format=format, fewest_in_cache=0),)
        screen = Screen(w_fd=w_fd, offset_f=b_f, uses=use)
        shifted = Screen(w_fd=w_fd, offset_f=b_f - threshold_f, uses=use)
        yield Case(
            kernel=f"encode_topk, {name} screen",
            ours=lambda screen=screen: encode_topk(x_td, w_fd, b_f, k, screen=screen),
            used=_is_served(by_best, format),
            **topk,
            **common,
        )
        yield Case(
            kernel=f"encode_threshold, {name} screen",
            ours=lambda screen=shifted: encode_threshold(x_td, w_fd, b_f, threshold_f, screen=screen),
            used=_is_served(by_level, format),
            **threshold,
            **common,
        )
    if not x_td.is_cuda:
        yield Case(
            kernel="encode_threshold, weights first",
            ours=lambda: weights_first(x_td, w_fd, b_f, threshold_f),
            used=False,
            **{**threshold, "agrees": lambda ours, theirs: abs(len(ours) - len(theirs[2])) <= 2},
            **common,
        )
    yield from _sparse(x_td, w_fd, b_f, threshold_f, k, shape)


def _is_served(product: Product, format: type | None = None) -> bool:
    """Return whether bounds, in a format or in any, served a product that has been encoded."""
    bounds = None if product.is_dense or product.x_td.is_cuda else product.bounds
    return bounds is not None and (format is None or type(bounds.format) is format)


def _sparse(x_td: Tensor, w_fd: Tensor, b_f: Tensor, threshold_f: Tensor, k: int, shape: str) -> Iterator[Case]:
    (t, d), f, size = x_td.shape, len(w_fd), w_fd.element_size()
    indices_tk = torch.rand(t, f, device=w_fd.device).topk(k, dim=1).indices.sort(dim=1).values
    indptr, indices_n = torch.arange(t + 1, device=w_fd.device) * k, indices_tk.view(-1)
    values_n = torch.rand(t * k, device=w_fd.device)
    a_tf = torch.zeros(t, f, device=w_fd.device).scatter_(1, indices_tk, values_n.view(t, k)).to(w_fd.dtype)
    b_d = torch.zeros(d, dtype=w_fd.dtype, device=w_fd.device)
    indices_m = torch.randperm(f, device=w_fd.device)[:8]
    floor_m = threshold_f[indices_m]

    def close(ours, theirs):
        return torch.allclose(ours.float(), theirs.float(), atol=0.1 if size == 2 else 1e-3)

    def all_then_chosen():
        h_tm = torch.addmm(b_f, x_td, w_fd.T)[:, indices_m]
        return torch.where(h_tm > floor_m, h_tm, 0.0)

    row_bytes = {"flops": 2 * t * k * d, "n_bytes": t * k * (d * size + 12) + t * d * 4}
    yield Case(
        kernel="sparse_decode",
        shape=f"{shape}, {k} fire",
        ours=lambda: sparse_decode(indptr, indices_n, values_n, w_fd, b_d),
        peer="dense product",
        torch=lambda: torch.addmm(b_d, a_tf, w_fd),
        agrees=close,
        **row_bytes,
    )
    yield Case(
        kernel="gather_dot",
        shape=f"{shape}, {k} pairs a token",
        ours=lambda: gather_dot(x_td, w_fd, indptr, indices_n),
        peer="bmm of gathered rows",
        torch=lambda: torch.bmm(w_fd[indices_tk], x_td[:, :, None]).view(-1),
        agrees=close,
        **row_bytes,
    )
    yield Case(
        kernel="encode_features",
        shape=f"{shape}, 8 chosen",
        ours=lambda: encode_features(x_td, w_fd, b_f, indices_m, floor_m),
        peer="all features, then the chosen",
        torch=all_then_chosen,
        agrees=lambda ours, theirs: torch.allclose(ours.sum(), theirs.float().sum(), rtol=0.2, atol=5),
        flops=2 * t * d * 8,
        n_bytes=(t + 8) * d * size + t * 32,
    )
    context = torch.tensor([0, t // 2, t], device=w_fd.device)

    def dense_maximum():
        h_tf = torch.addmm(b_f, x_td, w_fd.T)
        return torch.stack([torch.stack(tuple(part.max(0))) for part in h_tf.split(context.diff().tolist())])

    if t >= 16:
        yield Case(
            kernel="encode_maximum",
            shape=f"{shape}, 2 contexts",
            ours=lambda: encode_maximum(x_td, w_fd, b_f, context),
            peer="addmm, max",
            torch=dense_maximum,
            agrees=lambda ours, theirs: close(ours.values_cf, theirs[:, 0]),
            flops=2 * t * d * f,
            n_bytes=(f + t) * d * size + 24 * f,
        )


def _weights(w_fd: Tensor) -> Iterator[Case]:
    f, d = w_fd.shape
    if w_fd.dtype != torch.float32:
        return
    unit_fd = torch.nn.functional.normalize(w_fd, dim=1)
    part = slice(0, 1_024)

    def all_pairs():
        cosine_cf = unit_fd[part] @ unit_fd.T
        cosine_cf.fill_diagonal_(-2)
        return cosine_cf.topk(16, dim=1)

    yield Case(
        kernel="neighbours",
        shape=f"1,024 of {f:,} x {d:,}, 16 nearest",
        ours=lambda: neighbours(unit_fd, 16, rows=part),
        peer="product of some rows, topk",
        torch=all_pairs,
        agrees=lambda ours, theirs: torch.allclose(ours[0], theirs.values, atol=1e-5),
        flops=2 * 1_024 * f * d,
        n_bytes=4 * f * d,
    )
    rows_cd = unit_fd[:128]

    def all_effects():
        h_cv = rows_cd @ w_fd.T
        largest, smallest = h_cv.topk(20, dim=1), h_cv.topk(20, dim=1, largest=False)
        low_c1, wide_cv = smallest.values[:, :1], h_cv.double()
        bin_cv = ((wide_cv - low_c1) / (largest.values[:, :1] - low_c1) * 40).long().clamp(0, 39)
        away_cv = wide_cv - wide_cv.mean(1, keepdim=True)
        moments = [away_cv.pow(power).mean(1) for power in (2, 3, 4)]
        counts = torch.zeros(len(h_cv), 40, device=h_cv.device).scatter_add_(1, bin_cv, torch.ones_like(h_cv))
        return largest, smallest, moments, counts

    yield Case(
        kernel="extremes",
        shape=f"128 x {d:,} x {f:,}, 20 each way, 40 bins",
        ours=lambda: extremes(rows_cd, w_fd, 20, n_bins=40),
        peer="product, two topk, moments and bins in float64",
        torch=all_effects,
        agrees=lambda ours, theirs: torch.allclose(ours.largest_ck, theirs[0].values, atol=1e-4),
        flops=2 * 128 * f * d,
        n_bytes=4 * f * d,
    )


def _streams(device: torch.device) -> Iterator[Case]:
    n_features, n_events = 24_576, 500_000
    generator = torch.Generator(device).manual_seed(0)
    feature_e = (torch.rand(n_events, device=device, generator=generator).pow(2) * n_features).long()
    value_e = torch.rand(n_events, device=device, generator=generator) * 9 + 0.1

    def stats():
        order_e, indptr = by_feature(feature_e, n_features)
        ordered_e = value_e[order_e]
        return event_stats(indptr, ordered_e, (ordered_e * 10).long(), 100)

    def sorted_stats():
        order_e = feature_e.argsort(stable=True)
        value, counts_f = value_e[order_e].double(), torch.bincount(feature_e, minlength=n_features)
        strange_f = torch.bincount(feature_e[~value_e.isfinite()], minlength=n_features)
        powers = [torch.segment_reduce(value**power, "sum", lengths=counts_f) for power in (1, 2, 3, 4)]
        highest_f = torch.segment_reduce(value, "max", lengths=counts_f)
        bin_e = (value_e * 10).long()
        return powers, highest_f, strange_f, torch.bincount(feature_e * 100 + bin_e, minlength=100 * n_features)

    yield Case(
        kernel="event_stats",
        shape=f"{n_events:,} events of {n_features:,} features, 100 bins",
        ours=stats,
        peer="sort, segment_reduce, bincount, count",
        torch=sorted_stats,
        agrees=lambda ours, theirs: torch.allclose(ours.powers_f4[:, 0], theirs[0][0]),
        flops=8 * n_events,
        n_bytes=20 * n_events + n_features * 100 * 8,
    )
    context_e = torch.arange(n_events, device=device)
    n_batches, size = 20, 32

    def stream():
        running = stream_topn(n_features, size, device)
        for part in torch.arange(n_events, device=device).chunk(n_batches):
            rank_e = value_ranks(value_e[part], context_e[part])
            running.add(feature_e[part], rank_e, context_e[part], value=value_e[part])
        return running.kept()["value"]

    def sort_each_batch():
        best_e = torch.zeros(0, dtype=torch.int64, device=device)
        for part in torch.arange(n_events, device=device).chunk(n_batches):
            every_e = torch.cat([best_e, part])
            every_e = every_e[value_e[every_e].argsort(descending=True)]
            every_e = every_e[feature_e[every_e].argsort(stable=True)]
            counts_u = feature_e[every_e].unique_consecutive(return_counts=True)[1]
            first_u = counts_u.cumsum(0) - counts_u
            place_e = torch.arange(len(every_e), device=device) - first_u.repeat_interleave(counts_u)
            best_e = every_e[place_e < size]
        return value_e[best_e]

    yield Case(
        kernel="stream_topn",
        shape=f"{n_events:,} candidates of {n_features:,} features in {n_batches} batches, {size} kept",
        ours=stream,
        peer="sort what is kept with each batch",
        torch=sort_each_batch,
        agrees=lambda ours, theirs: torch.allclose(ours.sum(), theirs.sum().cpu(), rtol=1e-4),
        flops=n_events,
        n_bytes=32 * n_events,
    )
    yield from _pairs_and_sources(device)


def _pairs_and_sources(device: torch.device) -> Iterator[Case]:
    n_features, n_tokens, n_firing = 2_048, 2_048, 32
    table_ff = torch.zeros(n_features, n_features, dtype=torch.int32, device=device)
    fires_tf = torch.rand(n_tokens, n_features, device=device)
    indices_tk = fires_tf.topk(n_firing, dim=1).indices.sort(dim=1).values
    fires_tf = torch.zeros_like(fires_tf).scatter_(1, indices_tk, 1.0)
    indptr = torch.arange(n_tokens + 1, device=device) * n_firing

    def pairs():
        table_ff.zero_()
        cooccurrence(table_ff, indptr, indices_tk.view(-1))
        return table_ff

    yield Case(
        kernel="cooccurrence",
        shape=f"{n_tokens:,} tokens, {n_firing} of {n_features:,} fire",
        ours=pairs,
        peer="dense product",
        torch=lambda: fires_tf.T @ fires_tf,
        agrees=lambda ours, theirs: torch.equal(ours.float(), theirs.triu(1)),
        flops=n_tokens * n_firing**2 / 2,
        n_bytes=n_tokens * n_firing**2 / 2 * 64,
    )
    n_asked, n_heads, n_sources, width = 16, 12, 512, 64
    pattern_nhs = torch.rand(n_asked, n_heads, n_sources, device=device)
    value_sgd = torch.randn(n_sources, n_heads, width, device=device)
    w_nhd = torch.randn(n_asked, n_heads, width, device=device)
    yield Case(
        kernel="source_attribution",
        shape=f"{n_asked} asked, {n_heads} heads of {width}, {n_sources} sources",
        ours=lambda: source_attribution(pattern_nhs, value_sgd, w_nhd),
        peer="pattern times values for every source, then the feature",
        torch=lambda: dense_attribution.source_attribution(pattern_nhs, value_sgd, w_nhd),
        agrees=lambda ours, theirs: torch.allclose(ours, theirs, atol=1e-3),
        flops=2 * n_asked * n_heads * n_sources * width,
        n_bytes=4 * (n_sources * n_heads * width + n_asked * n_heads * (n_sources + width)),
    )
