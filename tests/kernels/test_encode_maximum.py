import pytest
import torch

from kernels.bounds import InBfloat16, InBytes
from kernels.encode_maximum import Dense, cpu, encode_maximum, heights, reference
from kernels.encode_maximum.heights import Known, Screened
from kernels.products import Product
from tests.kernels.inputs import NOT_FINITE, WELL_BEHAVED, Inputs, far_apart, normal, screen_in

pytest.importorskip("triton", reason="Triton has no wheels for this platform")

from kernels.encode_maximum import triton as fused

IMPLEMENTATIONS = {
    "reference": reference.encode_maximum,
    "cpu": cpu.encode_maximum,
    "triton": fused.encode_maximum,
    "dispatch": encode_maximum,
}


@pytest.fixture(params=IMPLEMENTATIONS, ids=IMPLEMENTATIONS)
def implementation(request, device, poisoned):
    if request.param == "cpu" and device.type != "cpu":
        pytest.skip("runs on CPUs alone")
    return IMPLEMENTATIONS[request.param]


def check(inputs: Inputs, indptr, found, *, tolerance=1e-5):
    h_tf = inputs.scores()
    h_tf = torch.where(h_tf.isnan(), -torch.inf, h_tf)
    for c, (start, stop) in enumerate(zip(indptr[:-1].tolist(), indptr[1:].tolist(), strict=True)):
        values_f, tokens_f = found.values_cf[c].double().cpu(), found.tokens_cf[c].cpu()
        if start == stop:
            assert (values_f == -torch.inf).all()
            assert (tokens_f == -1).all()
            continue
        torch.testing.assert_close(values_f, h_tf[start:stop].amax(0), atol=tolerance, rtol=tolerance)
        some_f = values_f > -torch.inf
        assert torch.equal(tokens_f >= 0, some_f)
        assert ((tokens_f >= start) & (tokens_f < stop))[some_f].all()
        at_f = h_tf.gather(0, tokens_f.clamp(min=0)[None])[0]
        torch.testing.assert_close(at_f[some_f], values_f[some_f], atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("case", WELL_BEHAVED)
def test_maxima_are_those_of_a_dense_product(implementation, device, case):
    inputs = WELL_BEHAVED[case]().to(device)
    n = len(inputs.x_td)
    indptr = torch.tensor([0, n // 3, n // 3, n], device=device)  # one context is empty
    tolerance = 1e-5 * max(1, float(inputs.scores().abs().max())) if n else 0
    check(inputs, indptr, implementation(*inputs, indptr), tolerance=tolerance)


def test_contexts_longer_than_a_block(implementation, device, monkeypatch):
    monkeypatch.setattr("kernels.rows.CHUNK_ELEMENTS", 20 * 140)
    inputs = normal(150, 16, 140).to(device)
    indptr = torch.tensor([0, 5, 150], device=device)
    check(inputs, indptr, implementation(*inputs, indptr))


def test_the_first_of_equal_tokens_counts(implementation, device, monkeypatch):
    monkeypatch.setattr("kernels.rows.CHUNK_ELEMENTS", 20 * 140)
    x_td, w_fd, b_f = Inputs(*(tensor.round() for tensor in normal(100, 16, 140))).to(device)
    x_td[:] = x_td[0]  # integers, so that equal products are equal to the last bit
    indptr = torch.tensor([0, 3, 100], device=device)
    assert implementation(x_td, w_fd, b_f, indptr).tokens_cf.unique(dim=1).flatten().tolist() == [0, 3]


@pytest.mark.parametrize("case", NOT_FINITE)
def test_nan_is_never_a_maximum(implementation, device, case):
    inputs = NOT_FINITE[case]().to(device)
    indptr = torch.tensor([0, 2, 3, 6], device=device)
    found = implementation(*inputs, indptr)
    assert not found.values_cf.isnan().any()
    check(inputs, indptr, found)


def test_maxima_of_weights_beyond_32_bits(implementation, device):
    inputs = far_apart(device)
    indptr = torch.tensor([0, 3], device=device)
    check(inputs, indptr, implementation(*inputs, indptr))


def test_maxima_repeat_themselves(implementation, device):
    inputs = normal(8, 16, 140).to(device)
    indptr = torch.tensor([0, 8], device=device)
    first = implementation(*inputs, indptr)
    for _ in range(19):
        assert all(torch.equal(a, b) for a, b in zip(implementation(*inputs, indptr), first, strict=True))


def screened(inputs: Inputs, spans, *, format=InBfloat16, threshold=None):
    offset_f = inputs.b_f if threshold is None else inputs.b_f - threshold
    product = Product(**inputs._asdict(), screen=screen_in(format, inputs.w_fd, offset_f))
    return Screened(product, product.bounds, spans)


HEIGHTS = {
    "dense": lambda inputs, spans: heights(Product(**inputs._asdict()), spans),
    "screened": screened,
    "screened-above": lambda inputs, spans: screened(inputs, spans, threshold=0.7),
    "screened-bytes": lambda inputs, spans: screened(inputs, spans, format=InBytes, threshold=0.7),
    "triton": lambda inputs, spans: Known(
        fused.encode_maximum(*inputs, torch.tensor([0, *(last for _, last in spans)], device=inputs.x_td.device))
    ),
}


@pytest.mark.parametrize("kind", HEIGHTS)
@pytest.mark.parametrize("case", [name for name in WELL_BEHAVED if name != "no-tokens"])
def test_heights_are_exact_where_they_are_asked_for_and_bounds_elsewhere(kind, case, device, poisoned):
    if kind.startswith("screened") and device.type != "cpu":
        pytest.skip("bounds are for CPUs")
    inputs = WELL_BEHAVED[case]().to(device)
    n, n_features = len(inputs.x_td), len(inputs.b_f)
    spans = [(0, n)] if n < 3 else [(0, n // 3), (n // 3, n)]
    found, h_tf = HEIGHTS[kind](inputs, spans), inputs.scores()
    wanted_cf = torch.stack([h_tf[first:last].amax(0) for first, last in spans])
    tolerance = 2e-6 * float(h_tf.abs().max()) + 1e-37
    assert (found.highest_cf.double().cpu() >= wanted_cf - tolerance).all()
    context_n = torch.arange(len(spans), device=device).repeat_interleave(n_features)
    feature_n = torch.arange(n_features, device=device).repeat(len(spans))
    some_n = torch.arange(0, len(feature_n), 3, device=device)
    values_n, rows_n = (column.cpu() for column in found.exact(context_n[some_n], feature_n[some_n]))
    wanted_n = wanted_cf.view(-1)[some_n.cpu()]
    torch.testing.assert_close(values_n.double(), wanted_n, atol=tolerance, rtol=0)
    at_n = h_tf[rows_n, feature_n[some_n].cpu()]
    torch.testing.assert_close(at_n, wanted_n, atol=2 * tolerance, rtol=0)
    first_n = torch.tensor([first for first, _ in spans])[context_n[some_n].cpu()]
    assert (rows_n >= first_n).all()


def test_heights_do_not_depend_on_what_else_is_asked_for():
    inputs, spans = normal(40, 33, 300), [(0, 17), (17, 40)]
    found = screened(inputs, spans)
    context_n, feature_n = torch.arange(2).repeat_interleave(300), torch.arange(300).repeat(2)
    every, alone_n = found.exact(context_n, feature_n), torch.tensor([411])
    alone = found.exact(context_n[alone_n], feature_n[alone_n])
    assert all(torch.equal(a[alone_n], b) for a, b in zip(every, alone, strict=True))
    assert all(len(column) == 0 for column in found.exact(alone_n[:0], alone_n[:0]))


@pytest.mark.parametrize("format", [InBfloat16, InBytes])
@pytest.mark.parametrize("threshold", [None, 0.7])
def test_heights_are_exact_on_either_side_of_zero(threshold, format):
    x_td, w_fd, _ = normal(120, 96, 700)
    inputs = Inputs(x_td, w_fd / 10, torch.linspace(-6, 3, 700))
    inputs.w_fd[5] = inputs.b_f[5] = 0
    found = screened(inputs, [(0, 50), (50, 120)], threshold=threshold, format=format)
    context_n, feature_n = torch.arange(2).repeat_interleave(700), torch.arange(700).repeat(2)
    values_n, rows_n = found.exact(context_n, feature_n)
    h_tf = ((inputs.x_td[:, None] * inputs.w_fd).sum(2, dtype=torch.float64) + inputs.b_f).float()
    highest_cf = torch.stack([h_tf[:50].amax(0), h_tf[50:].amax(0)])
    assert (highest_cf < 0).any()
    assert (highest_cf > 0).any()
    assert torch.equal(values_n, highest_cf.view(-1))
    rows_cf = torch.stack([h_tf[:50].argmax(0), h_tf[50:].argmax(0) + 50])
    assert torch.equal(rows_n, rows_cf.view(-1))


def test_the_first_of_equal_bounds_counts():
    x_td, w_fd, b_f = Inputs(*(tensor.round() for tensor in normal(30, 16, 140)))
    x_td[:] = x_td[0]
    found = screened(Inputs(x_td, w_fd, b_f), [(0, 4), (4, 30)])
    context_n, feature_n = torch.arange(2).repeat_interleave(140), torch.arange(140).repeat(2)
    assert found.exact(context_n, feature_n)[1].view(2, 140).unique(dim=1).flatten().tolist() == [0, 4]


def test_heights_of_nothing_finite_are_the_lowest(device):
    h_tf = torch.full((4, 3), torch.nan, device=device)
    h_tf[2, 1] = 5.0
    found = Dense(h_tf, [(0, 2), (2, 4)])
    assert found.highest_cf.cpu().tolist() == [[-torch.inf] * 3, [-torch.inf, 5.0, -torch.inf]]
    values_n, rows_n = found.exact(torch.tensor([1], device=device), torch.tensor([1], device=device))
    assert (values_n.tolist(), rows_n.tolist()) == ([5.0], [2])
