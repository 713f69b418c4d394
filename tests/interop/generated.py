"""Dictionaries that a package writes in its own environment, with what it computes from them.

`python -m tests.interop.generated PACKAGE FOLDER`, in that environment, runs every case of `tests.interop.PACKAGE` for
each of SIZES and DTYPES. A case builds the package's module, gives it random weights, saves it with the package's own
writer and answers with inputs, activations and outputs; `tests/interop/test_packages.py` reads both in our environment.
A case is one line of the CASES of its package, so that a new reader needs no more than that.

Both sides compute in float32, from weights that the files may hold in less.

Shape suffixes: T tokens, D input width, O output width, F features.
"""

from __future__ import annotations

import importlib
import json
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

PACKAGES = ("circuit_tracer", "llamascopium", "overcomplete")
SIZES = ((24, 105), (33, 64))
DTYPES = (torch.float32, torch.bfloat16)
N_TOKENS = 61
K = 7
_EXPECTED = "expected"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What the package computes from one dictionary. `path` is within the case's folder, `lengths` are of sequences."""

    path: str
    x_td: Tensor
    a_tf: Tensor
    y_to: Tensor | None = None
    facts: dict[str, object] = field(default_factory=dict)
    lengths: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Where a case writes, and the sizes and the dtype that it shall have."""

    folder: Path
    d_in: int
    n_features: int
    dtype: torch.dtype

    def inputs(self, seed: int = 6) -> Tensor:
        return 2 * torch.randn(N_TOKENS, self.d_in, generator=torch.Generator().manual_seed(seed)) + 0.5


# A case writes into its folder and answers with every dictionary that it wrote.
Case = Callable[[Task], list[Expected]]


def randomize(module: nn.Module, seed: int = 5, thresholds: tuple[str, ...] = ("threshold",)) -> nn.Module:
    """Give every parameter values that a trained dictionary could have: no zero biases, no ties, no unit rows.

    Of `thresholds` those whose names say `log` or that exponentiate get logarithms.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if any(word in name for word in thresholds):
                value = 0.1 + 0.5 * noise.abs()
                value = value.log() if "log" in name or name.endswith("thresholds") else value
            else:
                scale = 0.2 if parameter.ndim < 2 or "b_" in name else max(parameter.shape[-2:]) ** -0.5 * 3
                value = scale * noise
            parameter.copy_(value.to(parameter.dtype))
    return module


def name_of(case: str, sizes: tuple[int, int], dtype: torch.dtype) -> str:
    return f"{case}-{sizes[0]}x{sizes[1]}-{str(dtype).removeprefix('torch.')}"


def cases_of(package: str) -> list[str]:
    """Return the names of all that a package is to write, without importing it."""
    cases = importlib.import_module(f"tests.interop.{package}").CASES
    return [name_of(case, sizes, dtype) for case in cases for sizes in SIZES for dtype in DTYPES]


def read(folder: Path, name: str) -> list[Expected]:
    """Read what a case answered; raises AssertionError with the package's own traceback where it failed."""
    place = folder / name
    failure = place / "failure.txt"
    assert not failure.exists(), failure.read_text()
    tensors = load_file(place / f"{_EXPECTED}.safetensors")
    found = []
    for number, entry in enumerate(json.loads((place / f"{_EXPECTED}.json").read_text())):
        entry["lengths"] = entry["lengths"] and tuple(entry["lengths"])
        own = {key: tensors.get(f"{number}.{key}") for key in ("x_td", "a_tf", "y_to")}
        found.append(Expected(**own, **entry))
    return found


def write(package: str, folder: Path) -> None:
    """Run every case of a package; one that fails leaves its traceback and stops no other."""
    torch.set_num_threads(1)
    for case, make in importlib.import_module(f"tests.interop.{package}").CASES.items():
        for sizes in SIZES:
            for dtype in DTYPES:
                place = folder / name_of(case, sizes, dtype)
                place.mkdir(parents=True)
                try:
                    with torch.no_grad():
                        answers = make(Task(folder=place, d_in=sizes[0], n_features=sizes[1], dtype=dtype))
                    _save(place, answers)
                except Exception:  # noqa: BLE001  whatever it was, the test of this case shows it
                    (place / "failure.txt").write_text(traceback.format_exc())


def _save(place: Path, answers: list[Expected]) -> None:
    tensors, entries = {}, []
    for number, answer in enumerate(answers):
        for key in ("x_td", "a_tf", "y_to"):
            if (tensor := getattr(answer, key)) is not None:
                tensors[f"{number}.{key}"] = tensor.float().contiguous().clone()
        entries.append({"path": answer.path, "facts": answer.facts, "lengths": answer.lengths})
    save_file(tensors, place / f"{_EXPECTED}.safetensors")
    (place / f"{_EXPECTED}.json").write_text(json.dumps(entries))


if __name__ == "__main__":
    write(sys.argv[1], Path(sys.argv[2]))
