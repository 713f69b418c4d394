"""One product whose epilogue keeps the best and the worst few of each tile and the sums of its powers.

As in `encode_topk` the result is exact unless a tile had more than KEEP of a row's k, which shows, and such rows are
computed again. Sums of a tile's 128 entries are float32, and are added up in float64. The histogram needs the range
first: it takes a second product, of some rows at a time.

Shape suffixes: C rows, V columns, D width, K kept, B bins, G tiles, P candidates.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.encode_topk.triton import choose_keep
from kernels.extremes import reference
from kernels.extremes.reference import Extremes
from kernels.rows import chunks
from kernels.tiles.triton import BLOCK_F, block_sizes, store_largest, tile_of_product


@triton.jit
def keep_extremes_kernel(
    x_ptr,
    w_ptr,
    b_ptr,
    best_ptr,
    best_indices_ptr,
    worst_ptr,
    worst_indices_ptr,
    sums_ptr,
    n_tokens,
    d_in,
    n_features,
    n_tiles,
    stride_xt,
    stride_xd,
    stride_wd,
    stride_wf,
    KEEP: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_F: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
):
    t, f, h = tile_of_product(
        x_ptr, w_ptr, b_ptr, n_tokens, d_in, n_features,
        stride_xt, stride_xd, stride_wd, stride_wf, BLOCK_T, BLOCK_F, BLOCK_D, PRECISION,
    )  # fmt: skip
    place = t * n_tiles + tl.program_id(1)
    inside = (f < n_features)[None, :]
    entry = tl.where(inside, h, 0.0)
    power = entry
    for degree in tl.static_range(4):
        tl.store(sums_ptr + place * 4 + degree, tl.sum(power, axis=1), mask=t < n_tokens)
        power *= entry
    store_largest(h, best_ptr, best_indices_ptr, place, t < n_tokens, KEEP, BLOCK_F)
    store_largest(tl.where(inside, -h, float("-inf")), worst_ptr, worst_indices_ptr, place, t < n_tokens, KEEP, BLOCK_F)


def extremes(rows_cd: Tensor, columns_vd: Tensor, k: int, n_bins: int) -> Extremes:
    """Return what stands out in each row."""
    n_rows, d_in = rows_cd.shape
    n_columns, device = len(columns_vd), rows_cd.device
    n_tiles = triton.cdiv(n_columns, BLOCK_F)
    keep = choose_keep(k, n_tiles)
    kept_cgp = [torch.empty(n_rows, n_tiles, keep, dtype=torch.float32, device=device) for _ in range(2)]
    indices_cp = [torch.empty(n_rows, n_tiles * keep, dtype=torch.int32, device=device) for _ in range(2)]
    sums_cg4 = torch.empty(n_rows, n_tiles, 4, dtype=torch.float32, device=device)
    # Two rounds of selection leave no room for the accumulators of more rows in float32.
    sizes = block_sizes(n_rows, rows_cd.element_size(), most=64 if rows_cd.element_size() == 4 else 128)
    if n_rows:
        keep_extremes_kernel[(triton.cdiv(n_rows, sizes["BLOCK_T"]), n_tiles)](
            rows_cd,
            columns_vd,
            torch.zeros(n_columns, device=device),
            kept_cgp[0],
            indices_cp[0],
            kept_cgp[1],
            indices_cp[1],
            sums_cg4,
            n_rows,
            d_in,
            n_columns,
            n_tiles,
            *rows_cd.stride(),
            columns_vd.stride(1),
            columns_vd.stride(0),
            KEEP=keep,
            BLOCK_F=BLOCK_F,
            # TF32, the default for float32, would lose half of the digits.
            PRECISION="ieee",
            **sizes,
        )
    largest_ck, largest_indices_ck, again_c = _top(kept_cgp[0], indices_cp[0], k)
    smallest_ck, smallest_indices_ck, too_c = _top(kept_cgp[1], indices_cp[1], k)
    for row in (again_c | too_c).nonzero().squeeze(1).split(max(1, (1 << 28) // n_columns)):
        h_cv = (rows_cd[row] @ columns_vd.T).float()
        largest_ck[row], largest_indices_ck[row] = h_cv.topk(k, dim=1)
        smallest_ck[row], smallest_indices_ck[row] = (-h_cv).topk(k, dim=1)
    return Extremes(
        largest_ck,
        largest_indices_ck,
        -smallest_ck,
        smallest_indices_ck,
        _central(sums_cg4.double().sum(1) / n_columns).float(),
        torch.cat([reference.histogram((rows_cd[c] @ columns_vd.T).float(), n_bins) for c in chunks(n_rows, n_columns)])
        if n_rows
        else torch.zeros(0, n_bins, dtype=torch.int64, device=device),
    )


def _top(kept_cgp: Tensor, indices_cp: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the k largest of what tiles kept, their indices, and where a tile may have dropped one."""
    values_ck, places_ck = kept_cgp.flatten(1).topk(k, dim=1)
    dropped_c = (kept_cgp[:, :, -1] >= values_ck[:, -1:]).any(1) & (kept_cgp.shape[2] < BLOCK_F)
    return values_ck, indices_cp.gather(1, places_ck).long(), dropped_c


def _central(raw_c4: Tensor) -> Tensor:
    """Return the mean and central moments from the means of powers."""
    m, s, c, q = raw_c4.unbind(1)
    return torch.stack([m, s - m**2, c - 3 * m * s + 2 * m**3, q - 4 * m * c + 6 * m**2 * s - 3 * m**4], dim=1)
