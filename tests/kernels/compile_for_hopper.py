"""Compile a kernel for an H100 on a machine without one, and print its registers and stack bytes as JSON.

Runs as a process of its own, because the interpreter that other tests use cannot compile.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from kernels.encode_topk.triton import keep_best_kernel

POINTERS = ("x_ptr", "w_ptr", "b_ptr")
ALIGNED = (*POINTERS, "values_ptr", "indices_ptr", "d_in", "stride_xt", "stride_wf")


def main(dtype: str, block_t: int, keep: int, num_warps: int) -> None:
    constants = {"stride_xd": 1, "stride_wd": 1, "KEEP": keep, "BLOCK_T": block_t, "BLOCK_F": 128, "PRECISION": "ieee"}
    constants["BLOCK_D"] = 32 if dtype == "fp32" else 64
    names = keep_best_kernel.arg_names
    signature = {name: "constexpr" if name in constants else "i32" for name in names}
    signature |= dict.fromkeys(POINTERS, f"*{dtype}") | {"values_ptr": "*fp32", "indices_ptr": "*i32"}
    source = ASTSource(
        fn=keep_best_kernel,
        signature=signature,
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in ALIGNED},
    )
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": num_warps})
    inspector = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        usage = subprocess.run([inspector, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    registers, stack = re.search(r"REG:(\d+) STACK:(\d+)", usage).groups()
    print(json.dumps({"registers": int(registers), "stack": int(stack), "shared": compiled.metadata.shared}))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
