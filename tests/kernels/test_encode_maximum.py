import pytest
import torch

from kernels.encode_maximum import cpu, encode_maximum, reference
from tests.kernels.inputs import NOT_FINITE, WELL_BEHAVED, Inputs, far_apart, normal

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
