"""Kernels compile for an H100 on any machine with Triton, and stay in registers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernels.compile_for_hopper import VARIANTS

pytest.importorskip("triton", reason="Triton has no wheels for this platform")

# What a block may have of each on an H100.
MOST_REGISTERS, MOST_SHARED_BYTES = 65_536, 227 * 1024


@pytest.fixture(scope="module")
def usage() -> dict[str, dict[str, int]]:
    """Registers, stack and shared memory of every variant, compiled in a process without the interpreter."""
    script = Path(__file__).with_name("compile_for_hopper.py")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    run = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        check=False,
        env=environment | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert run.returncode == 0, run.stderr
    return {line.pop("variant"): line for line in map(json.loads, run.stdout.splitlines())}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_kernel_compiles_for_an_h100_and_stays_in_registers(usage, name):
    variant, used = VARIANTS[name], usage[name]
    assert used["stack"] == 0
    assert used["registers"] * variant.num_warps * 32 <= MOST_REGISTERS
    assert used["shared"] <= MOST_SHARED_BYTES
