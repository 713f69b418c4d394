import pytest
import torch

from kernels.stream_topn import stream_topn
from kernels.stream_topn.cpu import TopContexts
from kernels.stream_topn.reference import top_contexts

pytest.importorskip("triton", reason="Triton has no wheels for this platform")

from kernels.stream_topn.triton import BufferedTopContexts

IMPLEMENTATIONS = {"cpu": TopContexts, "triton": BufferedTopContexts, "dispatch": stream_topn}


@pytest.fixture(params=IMPLEMENTATIONS, ids=IMPLEMENTATIONS)
def state(request, device, poisoned, monkeypatch):
    monkeypatch.setattr("kernels.stream_topn.cpu._MOST_WAITING", 50)
    return lambda n_features, size: IMPLEMENTATIONS[request.param](n_features, size, device)


def candidates(n_features: int, n_contexts: int, device, *, seed: int = 0):
    """Return every feature in some contexts, with values of which many are equal, in no order."""
    generator = torch.Generator().manual_seed(seed)
    pairs = torch.randperm(n_features * n_contexts, generator=generator)[: n_features * n_contexts * 2 // 3]
    value_e = (torch.randn(len(pairs), generator=generator) * 4).round() / 4
    position_e = torch.randint(128, (len(pairs),), generator=generator)
    return tuple(column.to(device) for column in (pairs % n_features, pairs // n_features, position_e, value_e))


def check(found, wanted):
    assert all(torch.equal(mine.cpu(), theirs) for mine, theirs in zip(found, wanted, strict=True))


def offline(columns, n_features, size):
    return top_contexts(*(column.cpu() for column in columns), n_features, size)


@pytest.mark.parametrize("n_batches", [1, 7])
@pytest.mark.parametrize(("n_features", "size"), [(1, 1), (5, 4), (3, 300)])
def test_any_cut_of_the_stream_gives_what_sorting_gives(state, device, n_features, size, n_batches):
    columns = candidates(n_features, 90, device)
    running = state(n_features, size)
    for batch in zip(*(column.chunk(n_batches) for column in columns), strict=True):
        running.add(*batch)
    check(running.result(), offline(columns, n_features, size))


def test_parts_merge_in_any_order(state, device):
    columns = candidates(4, 80, device)
    parts = []
    for batch in zip(*(column.chunk(3) for column in columns), strict=True):
        parts.append(state(4, 6))
        parts[-1].add(*batch)
    whole = state(4, 6)
    for part in reversed(parts):
        whole.merge(part)
    check(whole.result(), offline(columns, 4, 6))


def test_more_than_a_buffer_of_candidates_is_not_lost(state, device):
    context_e = torch.arange(400, device=device)
    columns = torch.zeros_like(context_e), context_e, context_e % 7, context_e / 400
    running = state(2, 3)
    running.add(*columns)
    assert running.result().contexts_fn.tolist() == [[399, 398, 397], [-1, -1, -1]]


def test_the_published_worst_only_rises(state, device):
    running = state(4, 3)
    before_f = running.worst_f.clone()
    for batch in zip(*(column.chunk(6) for column in candidates(4, 60, device)), strict=True):
        running.add(*batch)
        running.compact()
        assert (running.worst_f >= before_f).all()
        before_f = running.worst_f.clone()


def test_what_is_not_finite_is_counted_and_refused(state, device):
    feature_e, context_e, position_e, value_e = candidates(3, 40, device)
    value_e[::5], value_e[1::9], value_e[2] = torch.nan, torch.inf, -torch.inf
    running = state(3, 4)
    running.add(feature_e, context_e, position_e, value_e)
    check(running.result(), offline((feature_e, context_e, position_e, value_e), 3, 4))
    assert int(running.not_finite) == int((~value_e.isfinite()).sum())


def test_negative_values_and_negative_zero_keep_their_order(state, device):
    value_e = torch.tensor([-1.0, -0.0, 0.0, -3e38, 2.0, 1e-40], device=device)
    zeros_e = torch.zeros(6, dtype=torch.int64, device=device)
    running = state(1, 6)
    running.add(zeros_e, torch.arange(6, device=device), zeros_e, value_e)
    assert running.result().contexts_fn.tolist() == [[4, 5, 2, 1, 0, 3]]
