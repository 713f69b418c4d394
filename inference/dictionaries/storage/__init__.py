"""Weights in files: which tensors a file holds, and each of them when it is asked for.

A container (safetensors, npz, PyTorch's zip) is read for its table of contents alone, without torch: a tensor is then a
span of bytes that `Weights.tensor` reads in pieces, straight into its place, so that loading needs little more memory
than the result. No pickle is ever run: `storage.pickles` understands tensors, containers and numbers, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from inference.dictionaries.storage import npz, pickles, safetensors
from inference.dictionaries.storage.weights import At, Weights, damaged

__all__ = ["SUFFIXES", "At", "Weights", "damaged", "open_weights"]

_CONTAINERS: dict[str, Callable[[Path], Weights]] = {
    ".safetensors": safetensors.read_contents,
    ".npz": npz.read_contents,
    ".pt": pickles.read_contents,
    ".pth": pickles.read_contents,
    ".bin": pickles.read_contents,
}
SUFFIXES = tuple(_CONTAINERS)


def open_weights(path: Path) -> Weights:
    """Return the contents of a file by its suffix; raise DamagedDictionary, or RefusedPickle for one that runs code."""
    return _CONTAINERS[path.suffix](path)
