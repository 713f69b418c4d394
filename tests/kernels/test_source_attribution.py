import pytest
import torch

from kernels.source_attribution import cpu, reference, source_attribution

pytest.importorskip("triton", reason="Triton has no wheels for this platform")

from kernels.source_attribution import triton as fused

IMPLEMENTATIONS = {
    "cpu": cpu.source_attribution,
    "triton": fused.source_attribution,
    "dispatch": source_attribution,
}


@pytest.fixture(params=IMPLEMENTATIONS, ids=IMPLEMENTATIONS)
def implementation(request, device, poisoned):
    if request.param == "cpu" and device.type != "cpu":
        pytest.skip("runs on CPUs alone")
    return IMPLEMENTATIONS[request.param]


def attention(n_asked: int, n_heads: int, n_groups: int, n_sources: int, width: int, device):
    generator = torch.Generator().manual_seed(7)
    pattern_nhs = torch.randn(n_asked, n_heads, n_sources, generator=generator).softmax(2)
    value_sgd = torch.randn(n_sources, n_groups, width, generator=generator)
    w_nhd = torch.randn(n_asked, n_heads, width, generator=generator)
    return pattern_nhs.to(device), value_sgd.to(device), w_nhd.to(device)


@pytest.mark.parametrize(
    ("n_asked", "n_heads", "n_groups", "n_sources", "width"),
    [(1, 1, 1, 1, 4), (3, 4, 4, 40, 24), (5, 8, 2, 33, 16), (0, 2, 2, 5, 8)],
)
def test_attribution_is_what_heads_move(implementation, device, n_asked, n_heads, n_groups, n_sources, width):
    given = attention(n_asked, n_heads, n_groups, n_sources, width, device)
    wanted_ns = reference.source_attribution(*(tensor.double() for tensor in given))
    torch.testing.assert_close(implementation(*given).double(), wanted_ns, atol=1e-5, rtol=1e-5)


def test_attributions_add_up_to_the_pre_activation_less_its_bias(implementation, device):
    pattern_nhs, value_sgd, w_nhd = attention(3, 4, 2, 20, 8, device)
    heads_nhd = torch.einsum("nhs,shd->nhd", pattern_nhs, value_sgd.repeat_interleave(2, dim=1))
    torch.testing.assert_close(
        implementation(pattern_nhs, value_sgd, w_nhd).sum(1), (heads_nhd * w_nhd).sum((1, 2)), atol=1e-4, rtol=1e-5
    )


def test_attribution_takes_strided_tensors(implementation, device):
    pattern_nhs, value_sgd, w_nhd = attention(3, 4, 4, 20, 8, device)
    strided = (
        pattern_nhs.permute(2, 0, 1).contiguous().permute(1, 2, 0),
        value_sgd.permute(1, 2, 0).contiguous().permute(2, 0, 1),
        w_nhd.repeat_interleave(2, dim=2)[..., ::2],
    )
    torch.testing.assert_close(implementation(*strided), implementation(pattern_nhs, value_sgd, w_nhd))
