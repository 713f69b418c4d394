import pytest
import torch

from kernels.encode_topk import best_of, cpu, encode_topk, exact, reference
from kernels.products import Product
from tests.kernels.inputs import FORMATS, NOT_FINITE, WELL_BEHAVED, Inputs, far_apart, normal, screen_in

pytest.importorskip("triton", reason="Triton has no wheels for this platform")

from kernels.encode_topk import triton as fused


def screened(format):
    def encode(x_td, w_fd, b_f, k):
        best = exact.best_of(Product(x_td=x_td, w_fd=w_fd, b_f=b_f, screen=screen_in(format, w_fd, b_f)), k)
        # Nothing is found where bounds do not hold.
        return encode_topk(x_td, w_fd, b_f, k) if best is None else best

    return encode


IMPLEMENTATIONS = {
    "reference": reference.encode_topk,
    "cpu": cpu.encode_topk,
    "triton": fused.encode_topk,
    "dispatch": encode_topk,
    **{f"screened-{name}": screened(format) for name, format in FORMATS.items()},
}
ON_CPUS_ALONE = "cpu", "screened-bytes"


@pytest.fixture(params=IMPLEMENTATIONS, ids=IMPLEMENTATIONS)
def implementation(request, device, poisoned, monkeypatch):
    if request.param in ON_CPUS_ALONE and device.type != "cpu":
        pytest.skip("runs on CPUs alone")
    if request.param.startswith("screened"):
        # However many the candidates.
        monkeypatch.setattr(exact, "_IN_CACHE", 1)
        monkeypatch.setattr(exact, "_MOST_CANDIDATES", 1)
    return IMPLEMENTATIONS[request.param]


def check(inputs: Inputs, k: int, best, *, tolerance=1e-5):
    """Compare with a stable float64 sort: values at the returned indices, and membership up to rounding."""
    h_tf = inputs.scores()
    values_tk, indices_tk = best.values_tk.double().cpu(), best.indices_tk.cpu()
    assert values_tk.shape == indices_tk.shape == (len(h_tf), k)
    torch.testing.assert_close(values_tk, h_tf.gather(1, indices_tk), atol=tolerance, rtol=tolerance)
    best_tk = h_tf.sort(dim=1, descending=True, stable=True).values[:, :k]
    torch.testing.assert_close(values_tk, best_tk, atol=tolerance, rtol=tolerance)
    assert (values_tk.diff(dim=1) <= 0).all()
    assert all(len(set(row)) == k for row in indices_tk.tolist())
    assert not best.not_finite_t.any()


@pytest.mark.parametrize("k", [1, 12, 100])
@pytest.mark.parametrize("case", WELL_BEHAVED)
def test_encode_topk_equals_a_sort(implementation, device, case, k):
    inputs = WELL_BEHAVED[case]().to(device)
    tolerance = 1e-5 * max(1, float(inputs.scores().abs().max())) if len(inputs.x_td) else 0
    check(inputs, k, implementation(*inputs, k), tolerance=tolerance)


def test_encode_topk_returns_all_features_in_order(implementation, device):
    inputs = normal(20, 16, 100).to(device)
    check(inputs, 100, implementation(*inputs, 100))


@pytest.mark.parametrize("case", NOT_FINITE)
def test_encode_topk_counts_what_is_not_finite_and_never_keeps_nan(implementation, device, case):
    inputs = NOT_FINITE[case]().to(device)
    best = implementation(*inputs, 8)
    h_tf = inputs.x_td.cpu() @ inputs.w_fd.cpu().T + inputs.b_f.cpu()
    assert torch.equal(best.not_finite_t.cpu() > 0, (~h_tf.isfinite()).any(1))
    assert not best.values_tk.isnan().any()
    wanted_tk = torch.where(h_tf.isnan(), -torch.inf, h_tf).sort(dim=1, descending=True).values[:, :8]
    torch.testing.assert_close(best.values_tk.cpu(), wanted_tk, atol=1e-5, rtol=1e-5)
    assert torch.equal(best.indices_tk.cpu() == -1, wanted_tk == -torch.inf)


def test_encode_topk_repeats_itself(implementation, device):
    inputs = normal(8, 16, 200).to(device)
    first = implementation(*inputs, 6)
    for _ in range(19):
        assert all(torch.equal(a, b) for a, b in zip(implementation(*inputs, 6), first, strict=True))


def test_encode_topk_reaches_weights_beyond_32_bits(device):
    inputs = far_apart(device)
    check(inputs, 10, fused.encode_topk(*inputs, 10))


def test_a_permutation_of_features_permutes_the_result(implementation, device):
    inputs = normal(7, 24, 260).to(device)
    order_f = torch.randperm(260, generator=torch.Generator().manual_seed(1)).to(device)
    permuted = implementation(inputs.x_td, inputs.w_fd[order_f], inputs.b_f[order_f], 9)
    assert torch.equal(order_f[permuted.indices_tk], implementation(*inputs, 9).indices_tk)


def test_a_floor_selects_what_a_sort_does(poisoned):
    h_tf = torch.randn(300, 4096, generator=torch.Generator().manual_seed(0))
    h_tf[7] = -h_tf[7].abs()
    h_tf[8] = 1.0
    h_tf[9, 5:] = -torch.inf
    assert h_tf.numel() >= cpu._WORTH_A_FLOOR
    values_tk, indices_tk = cpu.select(h_tf, 40)
    torch.testing.assert_close(values_tk, h_tf.topk(40, dim=1).values, rtol=0, atol=0)
    torch.testing.assert_close(h_tf.gather(1, indices_tk), values_tk, rtol=0, atol=0)
    assert all(len(set(row)) == 40 for row in indices_tk[:9].tolist())
    h_tf[3] = torch.nan
    torch.testing.assert_close(cpu.select(h_tf, 40)[0], h_tf.topk(40, dim=1).values, equal_nan=True, rtol=0, atol=0)


@pytest.mark.parametrize("n_tokens", [5, 40])
@pytest.mark.parametrize("format", FORMATS)
def test_rows_that_the_bounds_do_not_prove_are_computed_again(device, format, n_tokens, monkeypatch):
    monkeypatch.setattr(exact, "_MOST_CANDIDATES", 1)
    if format == "bytes" and device.type != "cpu":
        pytest.skip("runs on CPUs alone")
    inputs = normal(n_tokens, 64, 1500).to(device)
    w_fd = inputs.w_fd.clone()
    w_fd[1:200] = w_fd[0] + 1e-5 * w_fd[1:200]  # closer together than few bits can tell
    x_td = torch.cat([inputs.x_td, w_fd[:1] * 8])
    inputs = Inputs(x_td, w_fd, inputs.b_f * 0)
    check(inputs, 16, screened(FORMATS[format])(*inputs, 16))


@pytest.mark.parametrize(("k", "n_tiles"), [(32, 16), (64, 512), (1, 1), (128, 1)])
def test_tiles_together_keep_at_least_k(k, n_tiles):
    keep = fused.choose_keep(k, n_tiles)
    assert keep * n_tiles >= k
    assert keep & (keep - 1) == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_encode_topk_on_the_gpu_at_the_size_of_a_published_dictionary(device, dtype):
    inputs = normal(1000, 768, 24_576).to(device, dtype)
    check(inputs, 64, encode_topk(*inputs, 64), tolerance=1e-4)


@pytest.mark.parametrize(("k", "dense"), [(8, False), (256, True)])
@pytest.mark.parametrize("format", FORMATS)
def test_everything_is_computed_where_many_are_kept(format, k, dense):
    x_td, w_fd, b_f = normal(512, 64, 4096)
    product = Product(x_td=x_td, w_fd=w_fd, b_f=b_f, screen=screen_in(FORMATS[format], w_fd, b_f))
    best = best_of(product, k)
    assert product.is_dense == dense
    torch.testing.assert_close(best.values_tk, (x_td @ w_fd.T + b_f).topk(k, dim=1).values, atol=1e-4, rtol=1e-4)
