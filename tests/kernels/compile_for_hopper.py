"""Compile kernels for an H100 on a machine without one, and print each one's registers and stack bytes as JSON.

Runs as a process of its own, because the interpreter that other tests use cannot compile: it takes the names of
variants, in `VARIANTS` below, and prints a line for each.
"""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

TILE = {"stride_xd": 1, "stride_wd": 1, "BLOCK_F": 128, "PRECISION": "ieee"}
WIDE_BF16 = TILE | {"BLOCK_T": 128, "BLOCK_D": 64}
WIDE_FP32 = TILE | {"BLOCK_T": 128, "BLOCK_D": 32}
SOME_BF16 = TILE | {"BLOCK_T": 64, "BLOCK_D": 64}
SOME_FP32 = TILE | {"BLOCK_T": 64, "BLOCK_D": 16}
FEWER_FP32 = TILE | {"BLOCK_T": 32, "BLOCK_D": 16}
FEW_BF16 = TILE | {"BLOCK_T": 16, "BLOCK_D": 64}
FEW_FP32 = TILE | {"BLOCK_T": 16, "BLOCK_D": 32}


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A kernel with the types of its pointers and its constants."""

    kernel: str
    types: dict[str, str]
    constants: dict[str, object]
    num_warps: int = 4
    aligned: tuple[str, ...] = field(default=())


def _tile(kernel: str, dtype: str, constants: dict[str, object], **types: str) -> Variant:
    inputs = dict.fromkeys(("x_ptr", "w_ptr", "b_ptr"), f"*{dtype}")
    return Variant(
        kernel=kernel,
        types=inputs | types,
        constants=constants,
        num_warps=8 if constants["BLOCK_T"] >= 64 else 4,
        aligned=("d_in", "stride_xt", "stride_wf"),
    )


_TOPK, _THRESHOLD = "encode_topk:keep_best_kernel", "encode_threshold:keep_firing_kernel"
_KEPT = {"values_ptr": "*fp32", "indices_ptr": "*i32", "not_finite_ptr": "*i32"}
_FIRING = {"threshold_ptr": "*fp32", "counts_ptr": "*i32", "columns_ptr": "*i8"}
_FIRING |= {"values_ptr": "*fp32", "not_finite_ptr": "*i32"}
_EXTREMES, _MAXIMUM = "extremes:keep_extremes_kernel", "encode_maximum:encode_maximum_kernel"
_EXTREMES_TYPES = {"best_ptr": "*fp32", "worst_ptr": "*fp32", "sums_ptr": "*fp32"}
_EXTREMES_TYPES |= {"best_indices_ptr": "*i32", "worst_indices_ptr": "*i32"}
_MAXIMUM_TYPES = {"indptr_ptr": "*i64", "values_ptr": "*fp32", "tokens_ptr": "*i64"}
_POINTERS_64 = dict.fromkeys(("indptr_ptr", "count_ptr", "histogram_ptr", "not_finite_ptr"), "*i64")
_STREAM_64 = dict.fromkeys(("group_ptr", "rank_ptr", "worst_ptr", "row_ptr", "n_survivors_ptr"), "*i64")
_FEATURES = "encode_features:encode_features_kernel"
_CHOSEN = {"stride_xd": 1, "stride_wd": 1, "BLOCK_M": 64, "PRECISION": "ieee"}
_CHOSEN_TYPES = {"indices_ptr": "*i64", "floor_ptr": "*fp32", "out_ptr": "*fp32"}


def _decode(dtype: str) -> Variant:
    inputs = dict.fromkeys(("w_ptr", "b_ptr", "residual_ptr"), f"*{dtype}")
    rows = {"indptr_ptr": "*i64", "indices_ptr": "*i64", "values_ptr": "*fp32", "out_ptr": "*fp32"}
    constants = {"stride_wo": 1, "stride_ro": 1, "SIGN": 1, "HAS_RESIDUAL": True, "BLOCK_N": 16, "BLOCK_O": 256}
    return Variant(kernel="sparse_decode:sparse_decode_kernel", types=inputs | rows, constants=constants)


VARIANTS = {
    "topk-bf16": _tile(_TOPK, "bf16", WIDE_BF16 | {"KEEP": 16}, **_KEPT),
    "topk-fp32": _tile(_TOPK, "fp32", WIDE_FP32 | {"KEEP": 16}, **_KEPT),
    "topk-bf16-some": _tile(_TOPK, "bf16", SOME_BF16 | {"KEEP": 16}, **_KEPT),
    "topk-fp32-some": _tile(_TOPK, "fp32", SOME_FP32 | {"KEEP": 16}, **_KEPT),
    "topk-fp32-fewer": _tile(_TOPK, "fp32", FEWER_FP32 | {"KEEP": 16}, **_KEPT),
    "topk-bf16-few": _tile(_TOPK, "bf16", FEW_BF16 | {"KEEP": 16}, **_KEPT),
    "topk-fp32-few": _tile(_TOPK, "fp32", FEW_FP32 | {"KEEP": 16}, **_KEPT),
    "threshold-bf16": _tile(_THRESHOLD, "bf16", WIDE_BF16 | {"SLOTS": 16}, **_FIRING),
    "threshold-fp32": _tile(_THRESHOLD, "fp32", WIDE_FP32 | {"SLOTS": 16}, **_FIRING),
    "threshold-bf16-some": _tile(_THRESHOLD, "bf16", SOME_BF16 | {"SLOTS": 16}, **_FIRING),
    "threshold-fp32-some": _tile(_THRESHOLD, "fp32", SOME_FP32 | {"SLOTS": 16}, **_FIRING),
    "threshold-fp32-fewer": _tile(_THRESHOLD, "fp32", FEWER_FP32 | {"SLOTS": 16}, **_FIRING),
    "threshold-bf16-few": _tile(_THRESHOLD, "bf16", FEW_BF16 | {"SLOTS": 16}, **_FIRING),
    "threshold-fp32-few": _tile(_THRESHOLD, "fp32", FEW_FP32 | {"SLOTS": 16}, **_FIRING),
    "gather-dot-bf16": Variant(
        kernel="gather_dot:gather_dot_kernel",
        types={"x_ptr": "*bf16", "w_ptr": "*bf16", "token_ptr": "*i64", "index_ptr": "*i64", "out_ptr": "*fp32"},
        constants={"stride_xd": 1, "stride_wd": 1, "BLOCK_N": 16, "BLOCK_D": 128},
    ),
    "features-bf16": _tile(_FEATURES, "bf16", _CHOSEN | {"BLOCK_T": 128, "BLOCK_D": 64}, **_CHOSEN_TYPES),
    "features-fp32-few": _tile(_FEATURES, "fp32", _CHOSEN | {"BLOCK_T": 16, "BLOCK_D": 32}, **_CHOSEN_TYPES),
    "extremes-bf16": _tile(_EXTREMES, "bf16", WIDE_BF16 | {"KEEP": 8}, **_EXTREMES_TYPES),
    "extremes-fp32": _tile(_EXTREMES, "fp32", SOME_FP32 | {"KEEP": 8}, **_EXTREMES_TYPES),
    "extremes-fp32-few": _tile(_EXTREMES, "fp32", FEW_FP32 | {"KEEP": 8}, **_EXTREMES_TYPES),
    "maximum-bf16": _tile(_MAXIMUM, "bf16", SOME_BF16, **_MAXIMUM_TYPES),
    "maximum-fp32": _tile(_MAXIMUM, "fp32", SOME_FP32 | {"BLOCK_D": 32}, **_MAXIMUM_TYPES),
    "event-stats": Variant(
        kernel="event_stats:event_stats_kernel",
        types=_POINTERS_64 | {"value_ptr": "*fp32", "bin_ptr": "*i32", "powers_ptr": "*fp64", "maximum_ptr": "*fp32"},
        constants={"BLOCK_E": 256, "BLOCK_B": 128},
    ),
    "stream-topn": Variant(
        kernel="stream_topn:survivors_kernel",
        types=_STREAM_64,
        constants={"BLOCK_E": 1024},
    ),
    "cooccurrence": Variant(
        kernel="cooccurrence:cooccurrence_kernel",
        types={"table_ptr": "*i32", "indptr_ptr": "*i64", "indices_ptr": "*i64"},
        constants={"BLOCK": 32},
    ),
    "source-attribution": Variant(
        kernel="source_attribution:source_attribution_kernel",
        types={"pattern_ptr": "*bf16", "value_ptr": "*bf16", "w_ptr": "*fp32", "out_ptr": "*fp32"},
        constants={"stride_ps": 1, "stride_vd": 1, "stride_wd": 1, "BLOCK_S": 32, "BLOCK_D": 128},
    ),
    "decode-bf16": _decode("bf16"),
    "decode-fp32": _decode("fp32"),
}


def compiled_usage(variant: Variant) -> dict[str, int]:
    """Return registers, stack bytes and shared memory of a variant, as the assembler reports them."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    folder, name = variant.kernel.split(":")
    kernel = getattr(importlib.import_module(f"kernels.{folder}.triton"), name)
    names = kernel.arg_names
    signature = dict.fromkeys(names, "i32") | variant.types | dict.fromkeys(variant.constants, "constexpr")
    source = ASTSource(
        fn=kernel,
        signature={name: signature[name] for name in names},
        constexprs={(names.index(name),): value for name, value in variant.constants.items()},
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in (*variant.types, *variant.aligned)},
    )
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": variant.num_warps})
    inspector = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        usage = subprocess.run([inspector, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    registers, stack = re.search(r"REG:(\d+) STACK:(\d+)", usage).groups()
    return {"registers": int(registers), "stack": int(stack), "shared": compiled.metadata.shared}


if __name__ == "__main__":
    for variant_name in sys.argv[1:] or VARIANTS:
        print(json.dumps({"variant": variant_name} | compiled_usage(VARIANTS[variant_name])), flush=True)  # noqa: T201
