import pytest
import torch

from kernels.event_stats import EventStats, by_feature, cpu, event_stats, reference

pytest.importorskip("triton", reason="Triton has no wheels for this platform")

from kernels.event_stats import triton as fused

IMPLEMENTATIONS = {"cpu": cpu.event_stats, "triton": fused.event_stats, "dispatch": event_stats}


@pytest.fixture(params=IMPLEMENTATIONS, ids=IMPLEMENTATIONS)
def implementation(request, device, poisoned):
    if request.param == "cpu" and device.type != "cpu":
        pytest.skip("runs on CPUs alone")
    return IMPLEMENTATIONS[request.param]


def events(n_events: int, n_features: int, n_bins: int, device, *, seed: int = 0):
    """Return events by feature, most of them of few features."""
    generator = torch.Generator().manual_seed(seed)
    feature_e = (torch.rand(n_events, generator=generator).pow(3) * n_features).long()
    value_e = torch.randn(n_events, generator=generator).exp()
    bin_e = torch.randint(n_bins, (n_events,), generator=generator)
    order_e, indptr = by_feature(feature_e.int().to(device), n_features)
    assert torch.equal(feature_e.sort(stable=True).indices.to(device), order_e)
    return indptr, value_e.to(device)[order_e], bin_e.to(device)[order_e]


def check(found, wanted):
    for name in ("count_f", "histogram_fb", "not_finite_f", "maximum_f"):
        assert torch.equal(getattr(found, name), getattr(wanted, name)), name
    torch.testing.assert_close(found.powers_f4, wanted.powers_f4, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("n_events", "n_features", "n_bins"), [(0, 3, 5), (1, 1, 1), (700, 9, 100), (300, 40, 7), (64, 3, 64)]
)
def test_sums_are_those_of_each_feature(implementation, device, n_events, n_features, n_bins):
    given = events(n_events, n_features, n_bins, device)
    check(implementation(*given, n_bins), reference.event_stats(*given, n_bins))


def test_what_is_not_finite_is_counted_apart(implementation, device):
    indptr, value_e, bin_e = events(200, 5, 10, device)
    value_e[::7], value_e[3::11], value_e[5] = torch.nan, torch.inf, -torch.inf
    value_e[indptr[4] :] = torch.nan
    found = implementation(indptr, value_e, bin_e, 10)
    check(found, reference.event_stats(indptr, value_e, bin_e, 10))
    assert found.maximum_f[4] == -torch.inf
    assert int(found.count_f.sum() + found.not_finite_f.sum()) == 200


def test_nothing_but_what_is_not_finite(implementation, device):
    indptr, value_e, bin_e = events(20, 3, 4, device)
    found = implementation(indptr, torch.full_like(value_e, torch.inf), bin_e, 4)
    assert torch.equal(found.not_finite_f, indptr.diff())
    assert not found.powers_f4.any()


def test_batches_add_up(implementation, device):
    total = EventStats.none(9, 10, device)
    parts = [events(n, 9, 10, device, seed=n) for n in (110, 190, 0)]
    for part in parts:
        total.add_(implementation(*part, 10))
    columns = zip(*(part[1:] for part in parts), strict=True)
    feature_e = torch.cat([torch.arange(9, device=device).repeat_interleave(part[0].diff()) for part in parts])
    order_e, indptr = by_feature(feature_e, 9)
    check(total, reference.event_stats(indptr, *(torch.cat(column)[order_e] for column in columns), 10))


def test_many_features_are_sorted_too(device):
    feature_e = torch.randint(200_000, (5000,), device=device)
    order_e, indptr = by_feature(feature_e, 200_000)
    assert torch.equal(order_e, feature_e.argsort(stable=True))
    assert torch.equal(indptr.diff(), torch.bincount(feature_e, minlength=200_000))


def test_sums_repeat_themselves(implementation, device):
    given = events(200, 4, 6, device)
    first = implementation(*given, 6)
    for _ in range(19):
        assert all(torch.equal(a, b) for a, b in zip(implementation(*given, 6), first, strict=True))
