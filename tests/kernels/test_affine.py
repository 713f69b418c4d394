"""The product that CPUs make with oneDNN: held to float64, and to torch where it must not be oneDNN that multiplies."""

import pytest
import torch
from torch.nn import functional

from kernels import affine as module
from kernels.affine import affine

SHAPES = [(1, 192, 2048), (3, 768, 3072), (4, 192, 2048), (64, 192, 192), (65, 768, 300), (250, 192, 2048), (0, 64, 32)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("with_bias", [True, False])
def test_equals_the_definition(shape, with_bias):
    generator = torch.Generator().manual_seed(0)
    n_tokens, d_in, n_features = shape
    x_td = torch.randn(n_tokens, d_in, generator=generator)
    w_fd = torch.randn(n_features, d_in, generator=generator)
    b_f = torch.randn(n_features, generator=generator) if with_bias else None
    true_tf = x_td.double() @ w_fd.T.double() + (0 if b_f is None else b_f.double())
    found_tf = affine(x_td, w_fd, b_f)
    assert found_tf.shape == true_tf.shape and found_tf.dtype == torch.float32
    torch.testing.assert_close(found_tf.double(), true_tf, rtol=0, atol=2e-6 * d_in)
    batched_btf = affine(x_td.reshape(1, n_tokens, d_in), w_fd, b_f)
    assert torch.equal(batched_btf[0], found_tf)


def test_takes_transposed_and_sliced_tensors():
    x_td = torch.randn(64, 1536)[:, ::2]
    w_df = torch.randn(768, 640)
    true_tf = x_td.double() @ w_df.double()
    torch.testing.assert_close(affine(x_td, w_df.T).double(), true_tf, rtol=0, atol=1e-3)
    torch.testing.assert_close(affine(x_td, w_df.T[::2]).double(), true_tf[:, ::2], rtol=0, atol=1e-3)


def test_what_is_not_finite_stays_in_its_row():
    x_td, w_fd = torch.randn(64, 192), torch.randn(2048, 192)
    x_td[3, 5], x_td[7, 0] = torch.nan, torch.inf
    finite_t = affine(x_td, w_fd).isfinite().all(1)
    assert (~finite_t).nonzero().flatten().tolist() == [3, 7]


def test_repeats_itself():
    x_td, w_fd, b_f = torch.randn(250, 192), torch.randn(2048, 192), torch.randn(2048)
    first = affine(x_td, w_fd, b_f)
    assert all(torch.equal(first, affine(x_td, w_fd, b_f)) for _ in range(20))


def test_gradients_pass():
    x_td = torch.randn(64, 192, requires_grad=True)
    w_fd = torch.randn(2048, 192)
    affine(x_td, w_fd).sum().backward()
    torch.testing.assert_close(x_td.grad, w_fd.sum(0).expand(64, 192), rtol=0, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions_are_torchs(dtype):
    x_td, w_fd = torch.randn(64, 192).to(dtype), torch.randn(2048, 192).to(dtype)
    assert torch.equal(affine(x_td, w_fd), functional.linear(x_td, w_fd))


def test_without_onednn_it_is_torchs(monkeypatch):
    monkeypatch.setattr(module, "onednn_is_faster", lambda: False)
    x_td, w_fd = torch.randn(64, 192), torch.randn(2048, 192)
    assert torch.equal(affine(x_td, w_fd), functional.linear(x_td, w_fd))
