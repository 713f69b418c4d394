import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kernels.stream_topn import stream_topn, value_ranks
from kernels.stream_topn.cpu import BestOfGroups
from kernels.stream_topn.reference import UNRANKED, best_of_groups

pytest.importorskip("triton", reason="Triton has no wheels for this platform")

from kernels.stream_topn.triton import BestOfGroupsOnGpu

IMPLEMENTATIONS = {"cpu": BestOfGroups, "triton": BestOfGroupsOnGpu, "dispatch": stream_topn}


@pytest.fixture(params=IMPLEMENTATIONS, ids=IMPLEMENTATIONS)
def state(request, device, poisoned, monkeypatch):
    monkeypatch.setattr("kernels.stream_topn.cpu._MOST_WAITING", 50)
    monkeypatch.setattr("kernels.stream_topn.cpu._MET_AT_ONCE", 40)
    return lambda n_groups, size: IMPLEMENTATIONS[request.param](n_groups, size, device)


def candidates(n_groups: int, n_contexts: int, device, *, n_identities: int = 10**9, seed: int = 0):
    """Return every group in some contexts, with values of which many are equal, in no order."""
    generator = torch.Generator().manual_seed(seed)
    pairs = torch.randperm(n_groups * n_contexts, generator=generator)[: n_groups * n_contexts * 2 // 3]
    value_e = (torch.randn(len(pairs), generator=generator) * 4).round() / 4
    identity_e = torch.randint(n_identities, (len(pairs),), generator=generator)
    columns = pairs % n_groups, value_ranks(value_e, pairs // n_groups), identity_e, torch.arange(len(pairs))
    return tuple(column.to(device) for column in columns)


def fed(state, columns):
    group_e, rank_e, identity_e, number_e = columns
    state.add(group_e, rank_e, identity_e, number=number_e)
    return state


def numbers(state):
    kept = state.kept()
    return kept["number"].tolist() if kept else []


def offline(columns, size):
    return best_of_groups(*(column.cpu() for column in columns[:3]), size).tolist()


@pytest.mark.parametrize("n_batches", [1, 7])
@pytest.mark.parametrize("n_identities", [10**9, 9])
@pytest.mark.parametrize(("n_groups", "size"), [(1, 1), (5, 4), (3, 300)])
def test_any_cut_of_the_stream_gives_what_sorting_gives(state, device, n_groups, size, n_identities, n_batches):
    columns = candidates(n_groups, 90, device, n_identities=n_identities)
    running = state(n_groups, size)
    for batch in zip(*(column.chunk(n_batches) for column in columns), strict=True):
        fed(running, batch)
    assert numbers(running) == offline(columns, size)
    kept = running.kept()
    assert torch.equal(kept["rank"], columns[1].cpu()[kept["number"]])


def test_parts_merge_in_any_order(state, device):
    columns = candidates(4, 80, device, n_identities=30)
    parts = [fed(state(4, 6), batch) for batch in zip(*(column.chunk(3) for column in columns), strict=True)]
    whole = state(4, 6)
    for part in [*reversed(parts), state(4, 6)]:
        whole.merge(part)
    assert numbers(whole) == offline(columns, 6)


def test_an_identity_is_kept_once_with_its_best_rank(state, device):
    rank_e = torch.arange(100, device=device)
    columns = torch.zeros_like(rank_e), rank_e, rank_e.clamp(min=97), rank_e
    assert numbers(fed(state(1, 3), columns)) == [0, 98, 99]


def test_a_candidate_that_comes_twice_counts_once(state, device):
    columns = candidates(3, 40, device)
    running = fed(fed(state(3, 5), columns), [column.flip(0) for column in columns])
    assert numbers(running) == offline(columns, 5)


def test_what_is_published_only_gets_better_and_refuses_only_what_cannot_be_kept(state, device):
    columns = candidates(4, 60, device, n_identities=25)
    running, best = state(4, 3), set(offline(columns, 3))
    before_g = running.worst_g.clone()
    for batch in zip(*(column.chunk(6) for column in columns), strict=True):
        refused = ~running.admits(batch[0], batch[1])
        assert not best & set(batch[3][refused].tolist())
        survivors = running.survivors(batch[0], batch[1])
        assert torch.equal(survivors.sort().values, (~refused).nonzero().squeeze(1))
        fed(running, batch).compact()
        assert (running.worst_g <= before_g).all()
        before_g = running.worst_g.clone()
    assert (before_g < UNRANKED - 1).all()


def test_what_waits_is_bounded(state, device):
    running = state(2, 5)
    for batch in zip(*(column.chunk(40) for column in candidates(2, 3000, device)), strict=True):
        fed(running, batch)
        assert running._n_waiting <= 50 + 10


def test_nothing_offered_gives_nothing(state, device):
    none = torch.zeros(0, dtype=torch.int64, device=device)
    assert numbers(state(3, 2)) == numbers(fed(state(3, 2), (none, none, none, none))) == []


def test_what_has_no_rank_is_counted_and_refused(state, device):
    value_e = torch.tensor([1.0, torch.nan, -torch.inf, torch.inf, -torch.nan], device=device)
    number_e = torch.arange(5, device=device)
    running = fed(state(1, 9), (torch.zeros_like(number_e), value_ranks(value_e, number_e), number_e, number_e))
    assert numbers(running) == [3, 0, 2]
    assert int(running.n_unranked) == 2


def test_results_repeat(state, device):
    columns = candidates(7, 300, device, n_identities=100)
    first = numbers(fed(state(7, 4), columns))
    assert all(numbers(fed(state(7, 4), columns)) == first for _ in range(20))


def test_columns_may_be_views_and_groups_narrow(state, device):
    columns = candidates(5, 60, device)
    wide = [torch.stack([column, column], dim=1)[:, 0] for column in columns]
    wide[0] = wide[0].int()
    assert numbers(fed(state(5, 4), wide)) == offline(columns, 4)


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=2, max_size=20))
def test_ranks_by_value_fall(values):
    value_e = torch.tensor(values) + 0.0  # -0 and 0 are one value
    order = value_ranks(value_e, torch.arange(len(values))).argsort()
    assert torch.equal(value_e[order], value_e.sort(descending=True).values)


def test_negative_zero_comes_behind_zero_and_equals_by_their_number():
    value_e = torch.tensor([-1.0, -0.0, 0.0, -3e38, 2.0, 1e-40, 0.0])
    assert value_ranks(value_e, torch.arange(7)).argsort().tolist() == [4, 5, 2, 6, 1, 0, 3]
