import pytest
import torch

from kernels.event_stats import cpu, event_stats, reference

pytest.importorskip("triton", reason="Triton has no wheels for this platform")

from kernels.event_stats import triton as fused

IMPLEMENTATIONS = {"cpu": cpu.event_stats, "triton": fused.event_stats, "dispatch": event_stats}


@pytest.fixture(params=IMPLEMENTATIONS, ids=IMPLEMENTATIONS)
def implementation(request, device, poisoned):
    if request.param == "cpu" and device.type != "cpu":
        pytest.skip("runs on CPUs alone")
    return IMPLEMENTATIONS[request.param]


def events(n_events: int, n_features: int, n_bins: int, device, *, seed: int = 0):
    """Return events in no order, most of them of few features."""
    generator = torch.Generator().manual_seed(seed)
    feature_e = (torch.rand(n_events, generator=generator).pow(3) * n_features).long()
    value_e = torch.randn(n_events, generator=generator).exp()
    bin_e = torch.randint(n_bins, (n_events,), generator=generator)
    return feature_e.to(device), value_e.to(device), bin_e.to(device)


def check(found, wanted):
    for name in ("count_f", "histogram_fb", "not_finite_f", "maximum_f"):
        assert torch.equal(getattr(found, name), getattr(wanted, name)), name
    torch.testing.assert_close(found.powers_f4, wanted.powers_f4, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("n_events", "n_features", "n_bins"), [(0, 3, 5), (1, 1, 1), (700, 9, 100), (300, 40, 7), (64, 3, 64)]
)
def test_sums_are_those_of_each_feature(implementation, device, n_events, n_features, n_bins):
    given = events(n_events, n_features, n_bins, device)
    check(implementation(*given, n_features, n_bins), reference.event_stats(*given, n_features, n_bins))


def test_what_is_not_finite_is_counted_apart(implementation, device):
    feature_e, value_e, bin_e = events(200, 5, 10, device)
    value_e[::7], value_e[3::11], value_e[5] = torch.nan, torch.inf, -torch.inf
    value_e[feature_e == 4] = torch.nan
    found = implementation(feature_e, value_e, bin_e, 5, 10)
    check(found, reference.event_stats(feature_e, value_e, bin_e, 5, 10))
    assert found.maximum_f[4] == -torch.inf
    assert int(found.count_f.sum() + found.not_finite_f.sum()) == 200


def test_batches_add_up(implementation, device):
    given = events(300, 9, 10, device)
    parts = [implementation(*(column[part] for column in given), 9, 10) for part in (slice(0, 110), slice(110, None))]
    check(parts[0].plus(parts[1]), implementation(*given, 9, 10))


def test_sums_repeat_themselves(implementation, device):
    given = events(200, 4, 6, device)
    first = implementation(*given, 4, 6)
    for _ in range(19):
        assert all(torch.equal(a, b) for a, b in zip(implementation(*given, 4, 6), first, strict=True))
