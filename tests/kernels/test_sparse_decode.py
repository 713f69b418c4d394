import pytest
import torch

from kernels.sparse_decode import cpu, decode_error, reference, sparse_decode
from tests.kernels.inputs import far_apart

pytest.importorskip("triton", reason="Triton has no wheels for this platform")

from kernels.sparse_decode import triton as fused

IMPLEMENTATIONS = {"reference": reference.sparse_decode, "cpu": cpu.sparse_decode, "triton": fused.sparse_decode}


@pytest.fixture(params=IMPLEMENTATIONS, ids=IMPLEMENTATIONS)
def implementation(request, device, poisoned, monkeypatch):
    if request.param == "cpu" and device.type != "cpu":
        pytest.skip("runs on CPUs alone")
    if device.type == "cpu":
        monkeypatch.setattr(fused, "_MOST_PARTS", 2)  # the interpreter takes milliseconds a program
    return IMPLEMENTATIONS[request.param]


def activations(n_tokens: int, n_features: int, most: int, device, *, seed: int = 0):
    """Return rows of different lengths; the first is empty, and features may repeat."""
    generator = torch.Generator().manual_seed(seed)
    counts_t = torch.randint(0, most + 1, (n_tokens,), generator=generator)
    counts_t[:1] = 0
    indptr = torch.cat([torch.zeros(1, dtype=torch.int64), counts_t.cumsum(0)])
    n = int(indptr[-1])
    indices_n = torch.randint(n_features, (n,), generator=generator)
    return indptr.to(device), indices_n.to(device), torch.randn(n, generator=generator).to(device)


def decoder(n_features: int, d_out: int, device):
    generator = torch.Generator().manual_seed(5)
    w_fo = torch.randn(n_features, d_out, generator=generator)
    return w_fo.to(device), torch.randn(d_out, generator=generator).to(device)


@pytest.mark.parametrize("residual", [False, True], ids=["alone", "residual"])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("n_tokens", "n_features", "d_out", "most"),
    [(0, 5, 8, 0), (1, 30, 16, 0), (2, 300, 300, 70), (40, 64, 33, 5), (600, 9, 16, 2), (3, 8, 16, 8)],
    ids=["no-tokens", "nothing-fires", "few-long", "odd", "many", "dense"],
)
def test_decoding_equals_a_dense_product(implementation, device, n_tokens, n_features, d_out, most, sign, residual):
    if implementation is fused.sparse_decode and n_tokens == 600 and device.type == "cpu":
        n_tokens = 40
    rows = activations(n_tokens, n_features, most, device)
    w_fo, b_o = decoder(n_features, d_out, device)
    residual_to = torch.randn(n_tokens, 2 * d_out, device=device)[:, ::2] if residual else None
    y_to = implementation(*rows, w_fo, b_o, residual_to, sign)
    indptr, indices_n, values_n = rows
    wanted_to = reference.sparse_decode(
        indptr,
        indices_n,
        values_n.double(),
        w_fo.double(),
        b_o.double(),
        None if residual_to is None else residual_to.double(),
        sign,
    )
    torch.testing.assert_close(y_to.double(), wanted_to, atol=1e-4, rtol=1e-5)


def test_decoding_reaches_rows_beyond_32_bits(implementation, device):
    inputs = far_apart(device)
    indptr, indices_n = torch.tensor([0, 3], device=device), torch.tensor([299, 0, 299], device=device)
    values_n = torch.tensor([1.0, 2.0, 0.5], device=device)
    b_o = torch.zeros(16, device=device)
    if implementation is reference.sparse_decode:
        pytest.skip("makes a dense product, whose weights would be touched")
    y_to = implementation(indptr, indices_n, values_n, inputs.w_fd, b_o)
    torch.testing.assert_close(y_to[0], 1.5 * inputs.w_fd[299] + 2 * inputs.w_fd[0])


def test_few_tokens_are_split_among_programs(device, monkeypatch):
    rows = activations(3, 50, 90, device)
    w_fo, b_o = decoder(50, 40, device)
    split = fused.sparse_decode(*rows, w_fo, b_o)
    monkeypatch.setattr(fused, "_MOST_PARTS", 1)
    torch.testing.assert_close(split, fused.sparse_decode(*rows, w_fo, b_o), atol=1e-5, rtol=1e-5)


def test_decoding_repeats_itself(implementation, device):
    rows = activations(3, 50, 40, device)
    w_fo, b_o = decoder(50, 40, device)
    first = implementation(*rows, w_fo, b_o)
    assert all(torch.equal(implementation(*rows, w_fo, b_o), first) for _ in range(20))


def test_steering_by_changes_is_decoding_twice_with_the_error_between(device):
    """x' = decode(a') + (x - decode(a)) = x + sum of (a' - a) w."""
    indptr, indices_n, before_n = activations(6, 40, 9, device)
    after_n = before_n + torch.randn(len(before_n), device=device)
    w_fo, b_o = decoder(40, 24, device)
    x_to = torch.randn(6, 24, device=device)
    twice_to = sparse_decode(
        indptr, indices_n, after_n, w_fo, b_o, residual_to=decode_error(indptr, indices_n, before_n, w_fo, b_o, x_to)
    )
    once_to = sparse_decode(indptr, indices_n, after_n - before_n, w_fo, torch.zeros_like(b_o), residual_to=x_to)
    torch.testing.assert_close(once_to, twice_to, atol=1e-4, rtol=1e-5)
