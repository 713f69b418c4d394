"""Canonical tensors: the names that every layout is mapped to, their shapes, and reading them.

    x' = s_in * normalize(x);  h = (x' - b_in_d) w_enc_fd.T + b_enc_f;  a = architecture(h)
    y = denormalize(a w_dec_fo + b_out_o) / s_out + x w_skip_do

The suffix of a name is its shape: D input width, O output width, F features. A mapping gives each canonical name the
one in the file, with `.T` behind it where the file holds the transpose: `{"w_enc_fd": "W_enc.T"}`.

Other tensors: `threshold_f` or `log_threshold_f`, one number also serving for all features; `log_gain_f`, `b_gate_f`
and `b_magnitude_f` of gated dictionaries; `decode_scale_f`, which multiplies activations before decoding.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from inference.dictionaries.config import DamagedDictionary, DictionaryConfig
from inference.dictionaries.storage import Weights, open_weights

if TYPE_CHECKING:
    from torch import Tensor

# What an architecture cannot do without, beside an encoder and a decoder.
NEEDED = {
    "jumprelu": ("threshold_f",),
    "batchtopk": ("threshold_f",),
    "matryoshka": ("threshold_f",),
    "gated": ("log_gain_f", "b_gate_f", "b_magnitude_f"),
}


def check_shapes(config: DictionaryConfig, weights: Weights) -> None:
    """Raise DamagedDictionary unless the file holds every mapped tensor in the shape that the config promises."""
    for canonical, name in config.tensors.items():
        stored, transpose = _stored(name)
        shape = weights.shape(stored)[::-1] if transpose else weights.shape(stored)
        expected = tuple(
            {"d": config.d_in, "o": config.d_out, "f": config.n_features}[axis] for axis in canonical.rpartition("_")[2]
        )
        if shape not in (expected, *_scalars(canonical)):
            expected = expected[::-1] if transpose else expected
            raise contradicted(weights.path, stored, f"{weights.shape(stored)} where {expected} was expected")


def read_tensors(config: DictionaryConfig) -> dict[str, Tensor]:
    """Return the canonical tensors of a dictionary in float32 as its file has them, nothing folded.

    Two canonical names of one stored tensor share their memory.
    """
    weights = open_weights(config.weights_path)
    check_shapes(config, weights)
    read: dict[str, Tensor] = {}
    for name in config.tensors.values():
        if name not in read:
            stored, transpose = _stored(name)
            read[name] = weights.tensor(stored, transpose=transpose)
    return {canonical: read[name] for canonical, name in config.tensors.items()}


def present(weights: Weights, tensors: Mapping[str, str], *, optional: Iterable[str] = ()) -> dict[str, str]:
    """Return a mapping without the optional canonical names whose tensors the file does not hold."""
    return {
        canonical: name
        for canonical, name in tensors.items()
        if canonical not in optional or _stored(name)[0] in weights
    }


def contradicted(path: Path, tensor: str, why: str) -> DamagedDictionary:
    return DamagedDictionary(
        f"{path} has {tensor} of shape {why}.",
        "Check that the config beside it belongs to these weights.",
        file=str(path),
        tensor=tensor,
    )


def _stored(name: str) -> tuple[str, bool]:
    return name.removesuffix(".T"), name.endswith(".T")


def _scalars(canonical: str) -> tuple[tuple[int, ...], ...]:
    return ((), (1,)) if canonical.endswith("threshold_f") else ()
