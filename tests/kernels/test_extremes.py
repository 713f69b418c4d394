import pytest
import torch

from kernels.extremes import cpu, extremes, reference
from tests.kernels.inputs import far_apart, normal

pytest.importorskip("triton", reason="Triton has no wheels for this platform")

from kernels.extremes import triton as fused

IMPLEMENTATIONS = {
    "reference": reference.extremes,
    "cpu": cpu.extremes,
    "triton": fused.extremes,
    "dispatch": lambda rows, columns, k, n_bins: extremes(rows, columns, k, n_bins=n_bins),
}


@pytest.fixture(params=IMPLEMENTATIONS, ids=IMPLEMENTATIONS)
def implementation(request, device, poisoned):
    if request.param == "cpu" and device.type != "cpu":
        pytest.skip("runs on CPUs alone")
    return IMPLEMENTATIONS[request.param]


def check(rows_cd, columns_vd, k, n_bins, found):
    rows_cd, columns_vd = rows_cd.double().cpu(), columns_vd.double().cpu()
    h_cv = rows_cd @ columns_vd.T
    wanted = reference.extremes(rows_cd, columns_vd, k, n_bins)
    close = {"atol": 1e-4, "rtol": 1e-4}
    for values_ck, indices_ck, wanted_ck in (
        (found.largest_ck, found.largest_indices_ck, wanted.largest_ck),
        (found.smallest_ck, found.smallest_indices_ck, wanted.smallest_ck),
    ):
        torch.testing.assert_close(values_ck.double().cpu(), wanted_ck, **close)
        torch.testing.assert_close(h_cv.gather(1, indices_ck.cpu()), wanted_ck, **close)
        assert all(len(set(row)) == k for row in indices_ck.tolist())
    torch.testing.assert_close(found.central_c4.double().cpu(), wanted.central_c4, **close)
    assert (found.histogram_cb.sum(1) == len(columns_vd)).all()
    # Float32 may move an entry across a border between bins.
    assert (found.histogram_cb.cpu() - wanted.histogram_cb).abs().sum() <= 2 * len(rows_cd)


@pytest.mark.parametrize(
    ("n_rows", "d_in", "n_columns", "k"), [(1, 16, 20, 20), (7, 33, 300, 5), (0, 16, 20, 3), (40, 8, 129, 1)]
)
def test_extremes_are_those_of_the_whole_product(implementation, device, n_rows, d_in, n_columns, k):
    rows_cd, columns_vd, _ = normal(n_rows, d_in, n_columns).to(device)
    check(rows_cd, columns_vd, k, 7, implementation(rows_cd, columns_vd, k, 7))


def test_extremes_that_lie_in_one_tile(implementation, device):
    rows_cd, columns_vd, _ = normal(3, 16, 500).to(device)
    columns_vd[130:170] = 9 * rows_cd[0] + 0.01 * columns_vd[130:170]
    check(rows_cd, columns_vd, 20, 40, implementation(rows_cd, columns_vd, 20, 40))


def test_extremes_of_strided_rows_and_columns_beyond_32_bits(implementation, device):
    inputs = far_apart(device)
    rows_cd = inputs.x_td.repeat_interleave(2, dim=1)[:, ::2]
    check(rows_cd, inputs.w_fd, 6, 10, implementation(rows_cd, inputs.w_fd, 6, 10))


def test_equal_entries_have_moments_and_one_bin(implementation, device):
    rows_cd = torch.zeros(2, 16, device=device)
    found = implementation(rows_cd, torch.ones(150, 16, device=device), 4, 10)
    assert found.central_c4.abs().max() == 0
    assert found.histogram_cb[:, 0].tolist() == [150, 150]


def test_extremes_repeat_themselves(implementation, device):
    rows_cd, columns_vd, _ = normal(5, 16, 200).to(device)
    first = implementation(rows_cd, columns_vd, 3, 5)
    for _ in range(19):
        assert all(torch.equal(a, b) for a, b in zip(implementation(rows_cd, columns_vd, 3, 5), first, strict=True))
