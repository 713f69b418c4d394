"""Tests, in the shape of the packages that they test."""

import os
from pathlib import Path

import inference  # noqa: F401  before torch, whose threads it tells how to wait

# Without a GPU, kernels are tested in Triton's interpreter, which is chosen when Triton is first imported.
if not Path("/dev/nvidiactl").exists():
    os.environ["TRITON_INTERPRET"] = "1"
