import pytest
import torch

from kernels.encode_features import cpu, encode_features, reference
from tests.kernels.inputs import NOT_FINITE, far_apart, normal

pytest.importorskip("triton", reason="Triton has no wheels for this platform")

from kernels.encode_features import triton as fused

IMPLEMENTATIONS = {
    "reference": reference.encode_features,
    "cpu": cpu.encode_features,
    "triton": fused.encode_features,
    "dispatch": encode_features,
}


@pytest.fixture(params=IMPLEMENTATIONS, ids=IMPLEMENTATIONS)
def implementation(request, device, poisoned):
    if request.param == "cpu" and device.type != "cpu":
        pytest.skip("runs on CPUs alone")
    return IMPLEMENTATIONS[request.param]


def check(inputs, indices_m, floor, a_tm):
    h_tm = inputs.scores()[:, indices_m.cpu()]
    floor_tm = floor.double().cpu().expand_as(h_tm)
    a_tm = a_tm.double().cpu()
    assert a_tm.shape == h_tm.shape
    clear_tm = (h_tm - floor_tm).abs() > 1e-5
    wanted_tm = torch.where(h_tm > floor_tm, h_tm, 0.0)
    torch.testing.assert_close(a_tm[clear_tm], wanted_tm[clear_tm], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("per", ["feature", "token", "both"])
@pytest.mark.parametrize("n_chosen", [0, 1, 5, 70])
@pytest.mark.parametrize("n_tokens", [0, 1, 17, 70])
def test_chosen_activations_are_those_of_a_dense_encode(implementation, device, n_tokens, n_chosen, per):
    inputs = normal(n_tokens, 33, 90).to(device)
    generator = torch.Generator().manual_seed(1)
    indices_m = torch.randint(90, (n_chosen,), generator=generator).to(device)  # some more than once
    shape = {"feature": (n_chosen,), "token": (n_tokens, 1), "both": (n_tokens, n_chosen)}[per]
    floor = torch.randn(shape, generator=generator).to(device)
    check(inputs, indices_m, floor, implementation(*inputs, indices_m, floor))


def test_chosen_activations_of_strided_inputs_and_weights_beyond_32_bits(implementation, device):
    inputs = far_apart(device)
    inputs = inputs._replace(x_td=inputs.x_td.repeat_interleave(2, dim=1)[:, ::2])
    indices_m = torch.tensor([299, 0, 298], device=device)
    floor = torch.zeros(3, device=device)
    check(inputs, indices_m, floor, implementation(*inputs, indices_m, floor))


@pytest.mark.parametrize("case", NOT_FINITE)
def test_nan_is_never_an_activation(implementation, device, case):
    inputs = NOT_FINITE[case]().to(device)
    indices_m = torch.arange(140, device=device)
    a_tm = implementation(*inputs, indices_m, torch.zeros(140, device=device))
    assert not a_tm.isnan().any()


def test_chosen_activations_repeat_themselves(implementation, device):
    inputs = normal(70, 16, 90).to(device)
    indices_m, floor = torch.arange(9, device=device), torch.zeros(9, device=device)
    first = implementation(*inputs, indices_m, floor)
    assert all(torch.equal(implementation(*inputs, indices_m, floor), first) for _ in range(20))
