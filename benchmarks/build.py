"""Building dashboards, against SAEDashboard on the same model, dictionary, tokens and cores, in turns.

Facet builds every feature of the dictionary, as a user has it: with a worker, Postgres and text that nobody tokenized
before. SAEDashboard is handed the tokens, and makes one batch of features, which its time is a multiple of: each batch
runs the model and the dictionary again. Its turns are counted from tokens and loaded weights to a written file.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import weights
from benchmarks.building import Build
from benchmarks.harness import Result
from inference.dashboards.corpus import read_contexts
from tests.interop import environments

N_TOKENS, CONTEXT_SIZE, ROUNDS = 131_072, 128, 3
# Features that SAEDashboard takes at a time where its user says nothing.
BATCH = 128
SOURCE, THREADS = "1-res-topk", 2
PEER = "benchmarks.peers.saedashboard"
_AIM = 100


def run(*, n_tokens: int = N_TOKENS, rounds: int = ROUNDS) -> list[Result]:
    """Take turns; the ratio of the medians is the result. Nothing where SAEDashboard is not installed."""
    if reason := environments.missing("saedashboard"):
        print(reason, file=sys.stderr)
        return []
    loaded = weights.load()
    dictionary = loaded.dictionaries[SOURCE]
    build = Build(
        model=str(loaded.model_folder),
        dictionary=str(loaded.dictionary_folders[SOURCE]),
        n_tokens=n_tokens,
        threads=THREADS,
    )
    ours: list[dict[str, Any]] = []
    theirs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        rows = _rows(loaded, n_tokens)
        np.save(Path(folder, "tokens.npy"), rows)
        spec = {
            "model": build.model,
            "dictionary": build.dictionary,
            "tokens": str(Path(folder, "tokens.npy")),
            "out": folder,
            "threads": THREADS,
            "batches": 1,
            "features_at_a_time": BATCH,
            "hook_point": dictionary.hook_in,
        }
        for _ in range(rounds):
            ours.append(build.measured())
            theirs.append(_peer(Path(folder), spec))
    return [*_ratio(ours, theirs, rows, loaded.which), *_of_facet(ours, loaded.which)]


def _ratio(ours: list[dict[str, Any]], theirs: list[dict[str, Any]], rows: np.ndarray, which: str) -> list[Result]:
    n_features = ours[0]["n_features"]
    # Contexts of the text that are shorter than the others are not among SAEDashboard's tokens, which are a rectangle.
    per_token = [run["seconds"] / run["n_tokens"] for run in ours]
    batches = n_features / BATCH
    peer_tokens = rows[:, 1:].size
    peer_per_token = [batches * run["seconds"][0] / peer_tokens for run in theirs]
    ratio = statistics.median(peer_per_token) / statistics.median(per_token)
    pairs = [theirs_ / ours_ for theirs_, ours_ in zip(peer_per_token, per_token, strict=True)]
    cpu_ratio = (batches * statistics.median(run["cpu_seconds"][0] for run in theirs) / peer_tokens) / (
        statistics.median(run["cpu_seconds"] / run["n_tokens"] for run in ours)
    )
    peer_seconds = statistics.median(run["seconds"][0] for run in theirs)
    return [
        Result(
            name="build",
            value=round(ratio, 1),
            unit="times faster",
            aim=f"at least {_AIM}",
            holds=ratio >= _AIM,
            peer="SAEDashboard",
            peer_value=round(peer_seconds * batches, 1),
            n=len(ours),
            details={
                "weights": which,
                "tokens": ours[0]["n_tokens"],
                "features": n_features,
                "seconds": [round(run["seconds"], 1) for run in ours],
                "peer_seconds_a_batch": [round(run["seconds"][0], 1) for run in theirs],
                "peer_features_a_batch": BATCH,
                "peer_batches": batches,
                "cpu_seconds": [round(run["cpu_seconds"], 1) for run in ours],
                "peer_cpu_seconds_a_batch": [round(run["cpu_seconds"][0], 1) for run in theirs],
                "ratio_of_cpu_seconds": round(cpu_ratio, 1),
                "ratio_of_each_pair": [round(pair, 1) for pair in pairs],
                "peer_peak_memory_bytes": max(run["peak_memory_bytes"] for run in theirs),
                "peak_memory_bytes": max(run["measurements"]["peak_memory_bytes"] for run in ours),
                "peer_file_bytes_per_feature": round(theirs[0]["bytes"] / BATCH),
                "peer_versions": theirs[0]["versions"],
            },
        )
    ]


def _of_facet(ours: list[dict[str, Any]], which: str) -> list[Result]:
    """Return Facet's own rate in the run of median length, by stage."""
    run = sorted(ours, key=lambda one: one["seconds"])[len(ours) // 2]
    return [
        Result(
            name="build_rate",
            value=round(run["n_tokens"] / run["seconds"], 1),
            unit="tokens/s",
            aim="none",
            holds=None,
            peer="none",
            peer_value=None,
            n=run["n_tokens"],
            details={"weights": which, "features": run["n_features"]} | stages(run),
        )
    ]


def stages(run: dict[str, Any]) -> dict[str, object]:
    """Return seconds of a build by stage, tokens a second in each, and the peak of memory."""
    spent = run["measurements"]["seconds_by_stage"]
    # Shards hold the model, the encoding and what follows from it; what is in none waits, loads and stores.
    whole = {"read", "shards", "check", "weights", "merge"}
    parts = {name: value for name, value in spent.items() if name != "shards"}
    parts["load and store"] = round(run["seconds"] - sum(spent.get(name, 0) for name in whole), 3)
    return {
        "seconds_by_stage": parts,
        "tokens_per_second_by_stage": {
            name: round(run["n_tokens"] / value) for name, value in parts.items() if value > 0.05
        },
        "peak_memory_bytes": run["measurements"]["peak_memory_bytes"],
    }


def _rows(loaded: weights.Weights, n_tokens: int) -> np.ndarray:
    """Return the text's contexts of full length, BOS first."""
    table, _ = read_contexts(loaded.model, weights.documents(), n_tokens=n_tokens, context_size=CONTEXT_SIZE)
    full = np.flatnonzero(np.diff(table.indptr_c) == CONTEXT_SIZE)
    return np.stack([table.tokens(int(context))[0] for context in full])


def _peer(folder: Path, spec: dict[str, Any]) -> dict[str, Any]:
    path = folder / "spec.json"
    path.write_text(json.dumps(spec))
    command = [str(environments.python_of("saedashboard")), "-W", "ignore", "-m", PEER, str(path)]
    done = subprocess.run(command, cwd=weights.ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-4000:])
    return json.loads(done.stdout.splitlines()[-1])
