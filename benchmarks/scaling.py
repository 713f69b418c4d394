"""How the time of a build grows with features, with tokens and with workers: a table, and exponents.

Random TopK dictionaries of the width of the demonstration's model, on its text, each built as a user has it, in
processes of its own (`benchmarks.building`). The exponent is the slope of the least-squares line through the logarithms
of sizes and seconds: 1 where twice as much takes twice as long. Workers have one thread each.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from benchmarks import weights
from benchmarks.build import stages
from benchmarks.building import Build
from benchmarks.harness import Result

FEATURES = (4096, 16_384, 65_536)
TOKENS = (250_000, 1_000_000, 4_000_000)
WORKERS = (1, 2)
# What the other two are held at.
N_FEATURES, N_TOKENS = 4096, 250_000
_K = 32


def run(
    *,
    features: tuple[int, ...] = FEATURES,
    tokens: tuple[int, ...] = TOKENS,
    workers: tuple[int, ...] = WORKERS,
    n_tokens: int = N_TOKENS,
    n_features: int = N_FEATURES,
) -> list[Result]:
    """Measure every size once; what two series share is measured once."""
    model = str(weights.load().model_folder)
    done: dict[tuple[int, int, int, int], dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:

        def build(n_features: int, n_tokens: int, n_workers: int = 1, threads: int = 2) -> dict[str, Any]:
            key = (n_features, n_tokens, n_workers, threads)
            if key not in done:
                dictionary = str(_dictionary(Path(folder), n_features))
                sizes = {"n_tokens": n_tokens, "workers": n_workers, "threads": threads}
                done[key] = Build(model=model, dictionary=dictionary, **sizes).measured()
            return done[key]

        by_features = {n: build(n, n_tokens) for n in features}
        by_tokens = {run["n_tokens"]: run for run in (build(n_features, n) for n in tokens)}
        by_workers = {n: build(n_features, max(tokens[:2]), n, 1) for n in workers}
    of_tokens = {"features": n_features}
    return [
        _law("build_by_features", by_features, "at most 1", {"tokens": next(iter(by_features.values()))["n_tokens"]}),
        _law("build_by_tokens", by_tokens, "at most 1", of_tokens),
        _by_workers(by_workers, of_tokens),
    ]


def exponent(seconds: Mapping[int, float]) -> float:
    """Return b of the power law a * size ** b that is nearest to the seconds of some sizes."""
    return float(np.polyfit(np.log(list(seconds)), np.log(list(seconds.values())), 1)[0])


def _law(name: str, runs: Mapping[int, dict[str, Any]], aim: str, held: Mapping[str, int]) -> Result:
    slope = exponent({size: run["seconds"] for size, run in runs.items()})
    return Result(
        name=name,
        value=round(slope, 3),
        unit="exponent",
        aim=aim,
        holds=slope <= 1,
        peer="none",
        peer_value=None,
        n=len(runs),
        details={**held, "table": {str(size): _row(run) for size, run in runs.items()}},
    )


def _by_workers(runs: Mapping[int, dict[str, Any]], held: Mapping[str, int]) -> Result:
    seconds = {count: run["seconds"] for count, run in runs.items()}
    most = max(seconds)
    ratio = seconds[min(seconds)] / seconds[most]
    return Result(
        name="build_by_workers",
        value=round(ratio, 2),
        unit=f"times faster with {most}",
        aim="at least 1.6 with 2 workers on 2 idle cores",
        holds=ratio >= 1.6,
        peer="1 worker",
        peer_value=round(seconds[min(seconds)], 1),
        n=len(runs),
        details={
            **held,
            "tokens": runs[most]["n_tokens"],
            "exponent": round(exponent(seconds), 3),
            "table": {str(count): _row(run) for count, run in runs.items()},
        },
    )


def _row(run: dict[str, Any]) -> dict[str, Any]:
    return {
        "seconds": round(run["seconds"], 1),
        "tokens_per_second": round(run["n_tokens"] / run["seconds"]),
        "shards": run["measurements"]["shards"],
        "workers": run["measurements"]["workers"],
        **stages(run),
    }


def _dictionary(folder: Path, n_features: int) -> Path:
    """Write a random dictionary: unit rows, both ways the same."""
    path = folder / str(n_features)
    if (path / "cfg.json").exists():
        return path
    path.mkdir(parents=True)
    width = weights.WIDTH
    generator = torch.Generator().manual_seed(n_features)
    w_fd = torch.nn.functional.normalize(torch.randn(n_features, width, generator=generator), dim=1)
    biases = {"b_enc": torch.zeros(n_features), "b_dec": torch.zeros(width)}
    save_file({"W_enc": w_fd.T.contiguous(), "W_dec": w_fd, **biases}, path / "sae_weights.safetensors")
    cfg = {
        "architecture": "topk",
        "k": _K,
        "d_in": width,
        "d_sae": n_features,
        "dtype": "float32",
        "metadata": {"hook_name": "blocks.1.hook_resid_post", "prepend_bos": True},
    }
    (path / "cfg.json").write_text(json.dumps(cfg))
    return path
