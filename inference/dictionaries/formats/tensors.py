"""Canonical tensors: the names that every layout is mapped to, their shapes, and reading them.

    x' = s_in * normalize(x);  h = (x' - b_in_d) w_enc_fd.T + b_enc_f;  a = architecture(h)
    y = denormalize(a w_dec_fo + b_out_o) / s_out + x w_skip_do

The suffix of a name is its shape: D input width, O output width, F features; other letters are sizes that only an
architecture knows. Where a dictionary reads or writes at several hook points, D and O are their widths together.

A mapping says for each canonical name which stored tensor it is:

    W_enc                       as it is
    W_enc.T                     the transpose of what is stored
    W_E[3].T, W_dec[:,3]        a part of it, at an index of its first or its second axis
    W_dec[:,3:5]                what lies between indices of its second axis, flat but for the first
    W_dec_3.safetensors:W_dec_3   in another file of the same folder
    W_D.0[0] | W_D.1[0]         several, side by side along the last axis
    W_left @ W_right            the product of two
    b_E[0] + b_E[1]             the sum of several

Encoders that are no one matrix have other tensors in the place of `w_enc_fd` (`ENCODERS`), and archetypal decoders in
that of `w_dec_fo`: `archetypes_fp`, how much of each of the points `points_po` a row is made of, and `relax_fo`.

Other tensors: `threshold_f` or `log_threshold_f`, one number also serving for all features; `log_gain_f`, `b_gate_f`
and `b_magnitude_f` of gated dictionaries; `decode_scale_f`, which multiplies activations before decoding; `mean_d`,
which in the model's own units is subtracted from inputs and added to outputs. `b_out_o` and `w_skip_do` may be as wide
as one hook point: then they belong to the first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from inference.dictionaries.config import DamagedDictionary, DictionaryConfig
from inference.dictionaries.storage import At, Weights, damaged, open_weights
from inference.hook_points import parts

if TYPE_CHECKING:
    from torch import Tensor

# What an architecture cannot do without, beside an encoder and a decoder.
NEEDED = {
    "jumprelu": ("threshold_f",),
    "batchtopk": ("threshold_f",),
    "matryoshka": ("threshold_f",),
    "mutual_choice": ("threshold_f",),
    "feature_choice": ("threshold_f",),
    "gated": ("log_gain_f", "b_gate_f", "b_magnitude_f"),
}
# Encoders, where they are not w_enc_fd; decoders without directions have none that is w_dec_fo.
ENCODERS: dict[str, tuple[str, ...]] = {"kron": ("w_p_pd", "w_q_qd"), "neurons": ()}
_FIRST_POINT_ONLY = ("b_out_o", "w_skip_do")
_PIECE = re.compile(r"(?:(?P<file>[^:\[\]]+\.\w+):)?(?P<name>[^\[\]]+?)(?:\[(?P<at>[\d:,]+)\])?(?P<transposed>\.T)?")


@dataclass(frozen=True, slots=True)
class Piece:
    """One stored tensor, or what lies at some indices of it; None stands for a whole axis."""

    name: str
    file: str = ""
    at: At = ()
    transposed: bool = False

    def weights(self, main: Weights) -> Weights:
        """Return the contents of the file that holds it."""
        return open_weights(main.path.parent / self.file) if self.file else main

    def shape(self, main: Weights) -> tuple[int, ...]:
        """Return its shape; raise DamagedDictionary where it is not there."""
        stored = self.weights(main).shape(self.name)
        if len(stored) < len(self.at) or any(_last(i, n) >= n for i, n in zip(self.at, stored, strict=False)):
            raise damaged(main.path, f"{self.name} of shape {stored} has nothing at {self.at}", tensor=self.name)
        if self.at and isinstance(self.at[-1], slice):
            return stored[0], len(range(*self.at[-1].indices(stored[1]))) * prod(stored[2:])
        kept = tuple(n for n, i in zip(stored, (*self.at, *[None] * len(stored)), strict=False) if i is None)
        return kept[::-1] if self.transposed else kept

    def read(self, main: Weights) -> Tensor:
        return self.weights(main).tensor(self.name, at=self.at, transpose=self.transposed)


def pieces(expression: str) -> tuple[Piece, ...]:
    """Return the stored tensors that a mapping's value names."""
    return tuple(_piece(text) for text in re.split(r" [|@+] ", expression))


def shape_of(weights: Weights, expression: str) -> tuple[int, ...]:
    """Return the shape of what a mapping's value names; raise DamagedDictionary where that is not there."""
    if " @ " in expression:
        left, right = (shape_of(weights, factor) for factor in expression.split(" @ "))
        if len(left) != 2 or len(right) != 2 or left[1] != right[0]:
            raise damaged(weights.path, f"{expression} cannot be multiplied: their shapes are {left} and {right}")
        return left[0], right[1]
    shapes = [piece.shape(weights) for piece in pieces(expression)]
    if " + " in expression:
        if len(set(shapes)) > 1:
            raise damaged(weights.path, f"{expression} cannot be added: their shapes are {shapes}")
        return shapes[0]
    if len({shape[:-1] for shape in shapes}) > 1:
        raise damaged(weights.path, f"{expression} do not lie side by side: their shapes are {shapes}")
    return (*shapes[0][:-1], sum(shape[-1] for shape in shapes)) if shapes[0] else ()


def check_shapes(config: DictionaryConfig, weights: Weights) -> None:
    """Raise DamagedDictionary unless the file holds every mapped tensor in the shape that the config promises."""
    sizes = {"d": config.d_in, "o": config.d_out, "f": config.n_features}
    for canonical, expression in config.tensors.items():
        shape, axes = shape_of(weights, expression), canonical.rpartition("_")[2]
        expected = tuple(sizes.get(axis, stored) for axis, stored in zip_longest(axes, shape[: len(axes)]))
        allowed = [expected]
        if canonical in _FIRST_POINT_ONLY:
            allowed.append((*expected[:-1], config.d_out // len(parts(config.hook_out))))
        if canonical.endswith("threshold_f"):
            allowed += [(), (1,)]
        if shape not in allowed:
            piece = pieces(expression)[0]
            shapes = (shape[::-1], expected[::-1]) if piece.transposed else (shape, expected)
            raise contradicted(weights.path, piece.name, f"{shapes[0]} where {shapes[1]} was expected")


def read_tensors(config: DictionaryConfig) -> dict[str, Tensor]:
    """Return the canonical tensors of a dictionary in float32 as its files have them, nothing folded.

    Two canonical names of one stored tensor share their memory.
    """
    weights = open_weights(config.weights_path)
    check_shapes(config, weights)
    read: dict[str, Tensor] = {}
    for expression in config.tensors.values():
        if expression not in read:
            read[expression] = _read(weights, expression)
    return {canonical: read[expression] for canonical, expression in config.tensors.items()}


def _read(weights: Weights, expression: str) -> Tensor:
    """Return what a mapping's value names; of several tensors no more than one is held beside the result."""
    import torch

    found = pieces(expression)
    if len(found) == 1:
        return found[0].read(weights)
    if " @ " in expression:
        return torch.linalg.multi_dot([piece.read(weights) for piece in found])
    if " + " in expression:
        return torch.stack([piece.read(weights) for piece in found]).sum(0)
    joined = torch.empty(shape_of(weights, expression))
    start = 0
    for piece in found:
        part = piece.read(weights)
        joined[..., start : start + part.shape[-1]] = part
        start += part.shape[-1]
    return joined


def files_of(weights: Weights, tensors: Mapping[str, str]) -> list[Path]:
    """Return the files that a mapping reads, the main one first."""
    named = {piece.file for expression in tensors.values() for piece in pieces(expression) if piece.file}
    return [weights.path, *(weights.path.parent / name for name in sorted(named))]


def present(weights: Weights, tensors: Mapping[str, str], *, optional: Iterable[str] = ()) -> dict[str, str]:
    """Return a mapping without the optional canonical names whose tensors the file does not hold."""
    return {
        canonical: expression
        for canonical, expression in tensors.items()
        if canonical not in optional or pieces(expression)[0].name in weights
    }


def contradicted(path: Path, tensor: str, why: str) -> DamagedDictionary:
    return DamagedDictionary(
        f"{path} has {tensor} of shape {why}.",
        "Check that the config beside it belongs to these weights.",
        file=str(path),
        tensor=tensor,
    )


def _piece(text: str) -> Piece:
    match = _PIECE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} names no stored tensor")
    at = tuple(_index(index) for index in (match["at"] or "").split(",") if index)
    return Piece(match["name"], match["file"] or "", at, match["transposed"] is not None)


def _index(text: str) -> int | slice | None:
    if text == ":":
        return None
    first, between, last = text.partition(":")
    return slice(int(first or 0), int(last) if last else None) if between else int(first)


def _last(index: int | slice | None, n: int) -> int:
    """Return the last index of an axis that is meant."""
    if isinstance(index, slice):
        return max(index.start, n - 1 if index.stop is None else index.stop - 1)
    return index or 0
