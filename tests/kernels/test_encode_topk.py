import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kernels.encode_topk import encode_topk, reference

pytest.importorskip("triton", reason="Triton has no wheels for this platform")

from kernels.encode_topk import triton as fused

IMPLEMENTATIONS = {"reference": reference.encode_topk, "triton": fused.encode_topk, "dispatch": encode_topk}


@pytest.fixture(params=IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS)
def implementation(request, poisoned):
    return request.param


def inputs(n_tokens, d_in, n_features, device, *, seed=0, transposed=True):
    generator = torch.Generator().manual_seed(seed)
    x_td = torch.randn(n_tokens, d_in, generator=generator)
    w_fd = torch.randn(n_features, d_in, generator=generator) / d_in**0.5
    b_f = torch.randn(n_features, generator=generator) / 4
    w_df = w_fd.T if transposed else w_fd.T.contiguous()
    return x_td.to(device), w_df.to(device), b_f.to(device)


def check(x_td, w_df, b_f, k, values_tk, indices_tk, *, tolerance=1e-5):
    """Compare with a stable float64 sort: values at the returned indices, and membership up to rounding."""
    h_tf = (x_td.double() @ w_df.double() + b_f.double()).cpu()
    values_tk, indices_tk = values_tk.double().cpu(), indices_tk.cpu()
    assert values_tk.shape == indices_tk.shape == (len(x_td), k)
    torch.testing.assert_close(values_tk, h_tf.gather(1, indices_tk), atol=tolerance, rtol=tolerance)
    best_tk = h_tf.sort(dim=1, descending=True, stable=True).values[:, :k]
    torch.testing.assert_close(values_tk, best_tk, atol=tolerance, rtol=tolerance)
    assert (values_tk.diff(dim=1) <= 0).all()
    assert all(len(set(row)) == k for row in indices_tk.tolist())


@pytest.mark.parametrize(
    ("n_tokens", "d_in", "n_features", "k"),
    [(1, 16, 128, 1), (17, 33, 300, 8), (3, 40, 257, 32), (20, 16, 100, 100), (5, 64, 255, 3)],
    ids=["one", "odd", "wide-k", "all", "narrow"],
)
def test_encode_topk_equals_a_sort(implementation, device, n_tokens, d_in, n_features, k):
    x_td, w_df, b_f = inputs(n_tokens, d_in, n_features, device)
    check(x_td, w_df, b_f, k, *implementation(x_td, w_df, b_f, k))


def test_encode_topk_takes_contiguous_weights_and_strided_inputs(implementation, device):
    x_td, w_df, b_f = inputs(9, 32, 200, device, transposed=False)
    x_td = x_td.repeat_interleave(2, dim=1)[:, ::2]
    assert not x_td.is_contiguous()
    check(x_td, w_df, b_f, 4, *implementation(x_td, w_df, b_f, 4))


def test_encode_topk_is_exact_where_one_tile_holds_every_winner(implementation, device):
    x_td, w_df, b_f = inputs(6, 24, 512, device)
    b_f[130:170] += 20
    check(x_td, w_df, b_f, 12, *implementation(x_td, w_df, b_f, 12))


def test_encode_topk_survives_ties_and_negative_rows(implementation, device):
    x_td, w_df, b_f = inputs(4, 16, 140, device)
    w_df = w_df[:, :1].expand(-1, 140)
    b_f = torch.full_like(b_f, -100.0)
    check(x_td, w_df, b_f, 5, *implementation(x_td, w_df, b_f, 5))


def test_encode_topk_of_no_tokens_is_empty(implementation, device):
    x_td, w_df, b_f = inputs(0, 16, 140, device)
    values_tk, indices_tk = implementation(x_td, w_df, b_f, 5)
    assert values_tk.shape == indices_tk.shape == (0, 5)


def test_encode_topk_repeats_itself(implementation, device):
    x_td, w_df, b_f = inputs(8, 16, 200, device)
    first, second = implementation(x_td, w_df, b_f, 6), implementation(x_td, w_df, b_f, 6)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


@pytest.mark.parametrize(("k", "n_tiles"), [(32, 16), (64, 512), (1, 1), (128, 1)])
def test_tiles_together_keep_at_least_k(k, n_tiles):
    keep = fused.choose_keep(k, n_tiles)
    assert keep * n_tiles >= k
    assert keep & (keep - 1) == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_encode_topk_on_the_gpu_at_the_size_of_a_published_dictionary(device, dtype):
    x_td, w_df, b_f = (tensor.to(dtype) for tensor in inputs(1000, 768, 24_576, device))
    values_tk, indices_tk = encode_topk(x_td, w_df, b_f, 64)
    check(x_td, w_df, b_f, 64, values_tk, indices_tk, tolerance=1e-4)


@pytest.mark.parametrize(("dtype", "block_t", "num_warps"), [("bf16", 128, 8), ("fp32", 128, 8)])
def test_the_kernel_compiles_for_an_h100_without_spilling(dtype, block_t, num_warps):
    root = Path(__file__).parents[2]
    script = Path(__file__).with_name("compile_for_hopper.py")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    run = subprocess.run(
        [sys.executable, script, dtype, str(block_t), "16", str(num_warps)],
        capture_output=True,
        text=True,
        check=False,
        env=environment | {"PYTHONPATH": str(root)},
    )
    assert run.returncode == 0, run.stderr
    used = json.loads(run.stdout)
    assert used["stack"] == 0
    assert used["shared"] < 227 * 1024
