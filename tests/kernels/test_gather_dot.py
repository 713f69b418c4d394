import pytest
import torch

from kernels.gather_dot import cpu, gather_dot, reference
from tests.kernels.inputs import far_apart, normal

pytest.importorskip("triton", reason="Triton has no wheels for this platform")

from kernels.gather_dot import triton as fused

IMPLEMENTATIONS = {"reference": reference.gather_dot, "triton": fused.gather_dot, "dispatch": gather_dot}


@pytest.fixture(params=[*IMPLEMENTATIONS, "cpu", "cpu-without-mkl"])
def implementation(request, device, poisoned, monkeypatch):
    if request.param.startswith("cpu"):
        if device.type != "cpu":
            pytest.skip("runs on CPUs alone")
        monkeypatch.setattr("torch.backends.mkl.is_available", lambda: request.param == "cpu")
        monkeypatch.setattr(cpu, "_GATHERED_ELEMENTS", 100)
        monkeypatch.setattr(cpu, "_WORTH_A_MATRIX", 1)
        return cpu.gather_dot
    return IMPLEMENTATIONS[request.param]


def pairs(n_tokens: int, n_features: int, device, *, seed: int = 0):
    """Return rows of different lengths, some empty, of features in no order."""
    generator = torch.Generator().manual_seed(seed)
    counts_t = torch.randint(0, min(9, n_features + 1), (n_tokens,), generator=generator)
    indptr = torch.cat([torch.zeros(1, dtype=torch.int64), counts_t.cumsum(0)])
    rows = [torch.randperm(n_features, generator=generator)[:count] for count in counts_t.tolist()]
    return indptr.to(device), torch.cat([torch.zeros(0, dtype=torch.int64), *rows]).to(device)


@pytest.mark.parametrize(("n_tokens", "d_in", "n_features"), [(1, 16, 5), (7, 300, 40), (3, 129, 2), (0, 8, 3)])
def test_gather_dot_equals_float64(implementation, device, n_tokens, d_in, n_features):
    x_td, w_fd, _ = normal(n_tokens, d_in, n_features).to(device)
    indptr, indices_n = pairs(n_tokens, n_features, device)
    wanted_n = reference.gather_dot(x_td.double(), w_fd.double(), indptr, indices_n)
    torch.testing.assert_close(implementation(x_td, w_fd, indptr, indices_n).double(), wanted_n, atol=1e-5, rtol=1e-5)


def test_gather_dot_takes_strided_inputs_and_weights_beyond_32_bits(implementation, device):
    x_td, w_fd, _ = far_apart(device)
    x_td = x_td.repeat_interleave(2, dim=1)[:, ::2]
    indptr = torch.tensor([0, 2, 2, 4], device=device)
    indices_n = torch.tensor([0, 299, 298, 299], device=device)
    wanted_n = (x_td[[0, 0, 2, 2]].double() * w_fd[indices_n].double()).sum(1)
    torch.testing.assert_close(implementation(x_td, w_fd, indptr, indices_n).double(), wanted_n, atol=1e-5, rtol=1e-5)


def test_activations_times_gradients_add_up_to_the_effect_of_the_decoder(device):
    x_td, w_fo, _ = normal(5, 24, 30).to(device)
    indptr, indices_n = pairs(5, 30, device)
    values_n = torch.rand(len(indices_n), device=device)
    attribution_n = values_n * gather_dot(x_td, w_fo, indptr, indices_n)
    token_n = torch.arange(5, device=device).repeat_interleave(indptr.diff())
    decoded_to = torch.zeros(5, 24, device=device).index_add_(0, token_n, values_n[:, None] * w_fo[indices_n])
    total_t = torch.zeros(5, device=device).index_add_(0, token_n, attribution_n)
    torch.testing.assert_close(total_t, (decoded_to * x_td).sum(1), atol=1e-5, rtol=1e-5)
