import pytest
import torch

from kernels.encode_threshold import above_of, cpu, encode_threshold, exact, reference
from kernels.products import Product
from tests.kernels.inputs import FORMATS, NOT_FINITE, WELL_BEHAVED, Inputs, far_apart, normal, screen_in

pytest.importorskip("triton", reason="Triton has no wheels for this platform")

from kernels.encode_threshold import triton as fused


def screened(format):
    def encode(x_td, w_fd, b_f, threshold_f):
        screen = screen_in(format, w_fd, b_f - threshold_f)
        rows = exact.above_of(Product(x_td=x_td, w_fd=w_fd, b_f=b_f, screen=screen), threshold_f)
        # Nothing is found where bounds do not hold.
        return encode_threshold(x_td, w_fd, b_f, threshold_f) if rows is None else rows

    return encode


IMPLEMENTATIONS = {
    "reference": reference.encode_threshold,
    "cpu": cpu.encode_threshold,
    "triton": fused.encode_threshold,
    "dispatch": encode_threshold,
    **{f"screened-{name}": screened(format) for name, format in FORMATS.items()},
}
ON_CPUS_ALONE = "cpu", "screened-bytes"


@pytest.fixture(params=IMPLEMENTATIONS, ids=IMPLEMENTATIONS)
def implementation(request, device, poisoned, monkeypatch):
    if request.param in ON_CPUS_ALONE and device.type != "cpu":
        pytest.skip("runs on CPUs alone")
    if request.param.startswith("screened"):
        monkeypatch.setattr(exact, "_IN_CACHE", 1)  # however many the candidates
    return IMPLEMENTATIONS[request.param]


def thresholds(inputs: Inputs, quantile: float) -> torch.Tensor:
    """Return thresholds about which pre-activations lie, different for each feature."""
    h_tf = inputs.scores()
    level = float(h_tf.flatten().quantile(quantile)) if h_tf.numel() else 0.0
    spread_f = torch.rand(len(inputs.b_f), generator=torch.Generator().manual_seed(3)) * 0.1
    return (level + spread_f * abs(level)).to(inputs.b_f)


def check(inputs: Inputs, threshold_f, rows, *, tolerance=1e-5):
    """Compare with float64: what is clear of the threshold, the values, and the order within rows."""
    h_tf, threshold_f = inputs.scores(), threshold_f.double().cpu()
    a_tf = torch.full_like(h_tf, torch.nan)
    counts_t = rows.indptr.diff().cpu()
    token_n = torch.arange(len(h_tf)).repeat_interleave(counts_t)
    assert len(rows.indptr) == len(h_tf) + 1
    assert int(rows.indptr[-1]) == len(rows.indices_n) == len(rows.values_n)
    a_tf[token_n, rows.indices_n.cpu()] = rows.values_n.double().cpu()
    kept_tf = ~a_tf.isnan()
    assert int(kept_tf.sum()) == len(rows.values_n)  # no entry twice
    clear_tf = (h_tf - threshold_f).abs() > tolerance
    assert torch.equal(kept_tf[clear_tf], (h_tf > threshold_f)[clear_tf])
    torch.testing.assert_close(a_tf[kept_tf], h_tf[kept_tf], atol=tolerance, rtol=tolerance)
    same_row_n = token_n[1:] == token_n[:-1]
    assert (rows.indices_n.cpu().diff()[same_row_n] > 0).all()
    assert not rows.not_finite_t.any()


@pytest.mark.parametrize("quantile", [0.02, 0.9, 0.995])
@pytest.mark.parametrize("case", WELL_BEHAVED)
def test_encode_threshold_keeps_what_float64_does(implementation, device, case, quantile):
    inputs = WELL_BEHAVED[case]().to(device)
    threshold_f = thresholds(inputs, quantile)
    tolerance = 1e-5 * max(1, float(inputs.scores().abs().max())) if len(inputs.x_td) else 0
    check(inputs, threshold_f, implementation(*inputs, threshold_f), tolerance=tolerance)


def test_what_equals_its_threshold_does_not_fire(implementation, device):
    x_td = torch.tensor([[1.0, 2.0] + [0.0] * 14], device=device)
    w_fd = torch.zeros(130, 16, device=device)
    w_fd[:, 0] = 0.5
    w_fd[5, 1] = 2**-6
    rows = implementation(x_td, w_fd, torch.zeros(130, device=device), torch.full((130,), 0.5, device=device))
    assert rows.indices_n.tolist() == [5]


def test_features_with_an_infinite_threshold_never_fire(implementation, device):
    inputs = normal(4, 16, 140).to(device)
    rows = implementation(*inputs, torch.full((140,), torch.inf, device=device))
    assert rows.indptr.tolist() == [0] * 5


@pytest.mark.parametrize("case", NOT_FINITE)
def test_encode_threshold_counts_what_is_not_finite_and_never_keeps_nan(implementation, device, case):
    inputs = NOT_FINITE[case]().to(device)
    rows = implementation(*inputs, torch.zeros_like(inputs.b_f))
    h_tf = inputs.x_td.cpu() @ inputs.w_fd.cpu().T + inputs.b_f.cpu()
    assert torch.equal(rows.not_finite_t.cpu() > 0, (~h_tf.isfinite()).any(1))
    assert not rows.values_n.isnan().any()
    assert torch.equal(rows.indptr.diff().cpu(), (h_tf > 0).sum(1))
    torch.testing.assert_close(rows.values_n.cpu(), h_tf[h_tf > 0], atol=1e-5, rtol=1e-5)


def test_encode_threshold_repeats_itself(implementation, device):
    inputs = normal(8, 16, 200).to(device)
    threshold_f = thresholds(inputs, 0.9)
    first = implementation(*inputs, threshold_f)
    for _ in range(19):
        assert all(torch.equal(a, b) for a, b in zip(implementation(*inputs, threshold_f), first, strict=True))


def test_encode_threshold_reaches_weights_beyond_32_bits(device):
    inputs = far_apart(device)
    threshold_f = thresholds(inputs, 0.9)
    check(inputs, threshold_f, fused.encode_threshold(*inputs, threshold_f))


def test_rows_with_more_to_give_than_slots_are_computed_again(device, poisoned):
    inputs = normal(5, 24, 300).to(device)
    inputs.x_td[3] *= 0
    inputs.b_f[:140] += 9
    threshold_f = torch.full((300,), 2.0, device=device)
    inputs.b_f[:20] -= 20  # so that the row of zeros has 108 in one tile, 12 in the next
    rows = fused.encode_threshold(*inputs, threshold_f)
    assert int(rows.indptr.diff().min()) > fused.SLOTS
    check(inputs, threshold_f, rows)


def test_few_tokens_at_a_time_give_the_same(implementation, device, monkeypatch):
    inputs = normal(21, 16, 200).to(device)
    threshold_f = thresholds(inputs, 0.9)
    whole = implementation(*inputs, threshold_f)
    monkeypatch.setattr("kernels.rows.CHUNK_ELEMENTS", 500)
    check(inputs, threshold_f, implementation(*inputs, threshold_f))
    assert torch.equal(implementation(*inputs, threshold_f).indptr, whole.indptr)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_encode_threshold_on_the_gpu_at_the_size_of_a_published_dictionary(device, dtype):
    inputs = normal(1000, 768, 24_576).to(device, dtype)
    threshold_f = torch.full((24_576,), 2.5, device=device)
    check(inputs, threshold_f, encode_threshold(*inputs, threshold_f), tolerance=1e-4)


@pytest.mark.parametrize(("share", "dense"), [(0.5, True), (0.05, True), (0.001, False)])
@pytest.mark.parametrize("format", FORMATS)
def test_everything_is_computed_where_many_fire(format, share, dense):
    """Bounds would have been looked at in vain: the same product in float32 serves whoever looks at it next."""
    x_td, w_fd, b_f = normal(512, 64, 4096)
    threshold_f = torch.full((4096,), float((x_td @ w_fd.T + b_f).flatten()[:100_000].quantile(1 - share)))
    screen = screen_in(FORMATS[format], w_fd, b_f - threshold_f)
    product = Product(x_td=x_td, w_fd=w_fd, b_f=b_f, screen=screen)
    rows = above_of(product, threshold_f)
    assert product.is_dense == dense
    check(Inputs(x_td, w_fd, b_f), threshold_f, rows, tolerance=2e-5)
