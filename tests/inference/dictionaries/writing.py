"""What the writers of layouts share: sizes, random weights, formulas of activations, containers.

Shape suffixes: T tokens, D input width, O output width, F features.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

D, D_OUT, F, K = 24, 17, 105, 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A dictionary on disk, and what it should compute: `encode(x_td)` and `decode(a_tf, x_td)`, in float64.

    Without `decode` it only reads. Inputs are `d_in` wide.

    `facts` are attributes that its config should have. In a `dense` one every feature fires at every token.
    """

    path: Path
    encode: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor, Tensor], Tensor] | None
    facts: dict[str, object] = field(default_factory=dict)
    dense: bool = False
    d_in: int = D


@dataclass(frozen=True, slots=True)
class Draw:
    """Random weights of sizes that occur, of which none is a power of two."""

    generator: torch.Generator

    def normal(self, *shape: int, scale: float = 1.0, mean: float = 0.0) -> Tensor:
        return mean + scale * torch.randn(*shape, generator=self.generator)

    def encoder(self) -> Tensor:
        return self.normal(D, F, scale=D**-0.5)

    def decoder(self, d_out: int = D) -> Tensor:
        """Return rows of lengths from 0.5 to 1.5."""
        w_fo = self.normal(F, d_out)
        return w_fo / w_fo.norm(dim=1, keepdim=True) * (0.5 + torch.rand(F, 1, generator=self.generator))

    def bias(self, size: int) -> Tensor:
        return self.normal(size, scale=0.2)

    def threshold(self) -> Tensor:
        return 0.1 + 0.5 * torch.rand(F, generator=self.generator)


Case = Callable[[Path, Draw], Written]
CASES: dict[tuple[str, str], Case] = {}


def case(layout: str, *architectures: str) -> Callable:
    """Register a writer for what a layout calls these architectures; it is told which one it is to write."""

    def register(write: Callable[[Path, Draw, str], Written]) -> Callable:
        for name in architectures:
            CASES[layout, name] = lambda folder, draw, name=name: write(folder, draw, name)
        return write

    return register


def variant(write: Callable[..., Written], name: str, **options: object) -> Case:
    """Return a writer with options, for what one name can hold beside its case."""
    return lambda folder, draw: write(folder, draw, name, **options)


def top(h_tf: Tensor, k: int, key_tf: Tensor | None = None) -> Tensor:
    """Return h_tf with zeros but for the k largest of each row, or those with the largest keys."""
    indices_tk = (h_tf if key_tf is None else key_tf).topk(k, dim=1).indices
    return torch.zeros_like(h_tf).scatter(1, indices_tk, h_tf.gather(1, indices_tk))


def jump(h_tf: Tensor, threshold: Tensor | float) -> Tensor:
    return h_tf.relu() * (h_tf > threshold)


def pursue(r_td: Tensor, w_fd: Tensor, threshold: float, steps: int) -> Tensor:
    """Return matching pursuit's activations, token by token."""
    a_tf = r_td.new_zeros(len(r_td), len(w_fd))
    for r_d, a_f in zip(r_td.clone(), a_tf, strict=True):
        for _ in range(steps):
            support = a_f != 0
            best = (w_fd @ r_d).relu().argmax()
            value = (w_fd[best] @ r_d).relu()
            a_f[best] += value
            r_d -= value * w_fd[best]
            if torch.equal(support, a_f != 0) or r_d.norm() < threshold:
                break
    return a_tf


def save(path: Path, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Write tensors in the container that the path's suffix names; return them in float64."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    elif path.suffix == ".npz":
        np.savez(path, **{name: tensor.numpy() for name, tensor in tensors.items()})
    else:
        torch.save(tensors, path)
    return {name: tensor.double() for name, tensor in tensors.items()}


def write_json(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
