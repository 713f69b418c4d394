"""Building dashboards, against SAEDashboard on the same model, dictionaries, tokens and cores, in turns.

Facet builds every feature of a dictionary, as a user has it: with a worker, Postgres and text that nobody tokenized
before. SAEDashboard is handed the tokens, and makes one batch of features, which its time is a multiple of: each batch
runs the model and the dictionary again. Its turns are counted from tokens and loaded weights to a written file. Its
batches are those of its Neuronpedia runner, which is the fastest way it offers and writes what Facet is compared with:
128 features and 32 prompts at a time. `readme` is what its README shows instead: 64 features and 256 prompts at a time,
ten quantiles, an HTML page.

Measured at the size of the demonstration's dictionary and at two larger ones, random TopK dictionaries of the same
width: the ratio grows with features, since the peer runs the model once a batch.
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

N_TOKENS, CONTEXT_SIZE, ROUNDS = 131_072, 128, 2
LARGER = (8192, 24_576)
# Features that SAEDashboard takes at a time: where a user of its Neuronpedia runner says nothing, and in its README.
BATCHES = {"neuronpedia": 128, "readme": 64}
SOURCE, THREADS = "1-res-topk", 2
PEER = "benchmarks.peers.saedashboard"
_AIM = 100


def run(
    *, n_tokens: int = N_TOKENS, rounds: int = ROUNDS, larger: tuple[int, ...] = LARGER, with_readme: bool = True
) -> list[Result]:
    """Take turns at every size; ratios of medians are the results. Nothing where SAEDashboard is not installed."""
    if reason := environments.missing("saedashboard"):
        print(reason, file=sys.stderr)
        return []
    loaded = weights.load()
    results, sizes = [], {}
    with tempfile.TemporaryDirectory() as folder:
        rows = _rows(loaded, n_tokens)
        np.save(Path(folder, "tokens.npy"), rows)
        dictionaries = {loaded.dictionaries[SOURCE].n_features: (loaded.dictionary_folders[SOURCE], loaded.which)}
        hook = loaded.dictionaries[SOURCE].hook_in
        for n_features in larger:
            path = Path(folder, str(n_features))
            weights.random_topk(path, width=loaded.model.d_model, n_features=n_features, hook=hook)
            dictionaries[n_features] = path, "random weights"
        for n_features, (dictionary, which) in dictionaries.items():
            spec = {
                "model": str(loaded.model_folder),
                "dictionary": str(dictionary),
                "tokens": str(Path(folder, "tokens.npy")),
                "out": folder,
                "threads": THREADS,
                "batches": 1,
                "hook_point": hook,
            }
            build = Build(model=spec["model"], dictionary=spec["dictionary"], n_tokens=n_tokens, threads=THREADS)
            ways = ("neuronpedia", "readme") if with_readme and not sizes else ("neuronpedia",)
            ours: list[dict[str, Any]] = []
            theirs: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
            for number in range(1 if sizes else rounds):
                ours.append(build.measured())
                for way in ways if number == 0 else ways[:1]:
                    theirs[way].append(_peer(Path(folder), spec, way))
            sizes[n_features] = [_ratio(ours, theirs[way], rows, which, way) for way in ways]
            results += [*sizes[n_features], _of_facet(ours, which)]
    return [*results, *_growth({n_features: of_size[0].value for n_features, of_size in sizes.items()})]


def _ratio(ours: list[dict[str, Any]], theirs: list[dict[str, Any]], rows: np.ndarray, which: str, way: str) -> Result:
    n_features, batch = ours[0]["n_features"], BATCHES[way]
    # Contexts of the text that are shorter than the others are not among SAEDashboard's tokens, which are a rectangle.
    per_token = [run["seconds"] / run["n_tokens"] for run in ours]
    batches = n_features / batch
    peer_tokens = rows[:, 1:].size
    peer_per_token = [batches * run["seconds"][0] / peer_tokens for run in theirs]
    ratio = statistics.median(peer_per_token) / statistics.median(per_token)
    cpu_ratio = (batches * statistics.median(run["cpu_seconds"][0] for run in theirs) / peer_tokens) / (
        statistics.median(run["cpu_seconds"] / run["n_tokens"] for run in ours)
    )
    has_aim = way == "neuronpedia"
    return Result(
        name=f"build{'' if has_aim else f'_against_{way}'}: {n_features:,} features",
        value=round(ratio, 1),
        unit="times faster",
        aim=f"at least {_AIM} at 2,048 features, growing with them" if has_aim else "none",
        holds=ratio >= _AIM if has_aim else None,
        peer=f"SAEDashboard, {way}: {batches:,.0f} batches of {batch}, s",
        peer_value=round(statistics.median(run["seconds"][0] for run in theirs) * batches, 1),
        n=len(theirs),
        details={
            "weights": which,
            "tokens": ours[0]["n_tokens"],
            "features": n_features,
            "seconds": [round(run["seconds"], 1) for run in ours],
            "peer_seconds_a_batch": [round(run["seconds"][0], 1) for run in theirs],
            "peer_features_a_batch": batch,
            "peer_batches": batches,
            "cpu_seconds": [round(run["cpu_seconds"], 1) for run in ours],
            "peer_cpu_seconds_a_batch": [round(run["cpu_seconds"][0], 1) for run in theirs],
            "ratio_of_cpu_seconds": round(cpu_ratio, 1),
            "peer_peak_memory_bytes": max(run["peak_memory_bytes"] for run in theirs),
            "peak_memory_bytes": max(run["measurements"]["peak_memory_bytes"] for run in ours),
            "peer_file_bytes_per_feature": round(theirs[0]["bytes"] / batch),
            "peer_versions": theirs[0]["versions"],
        },
    )


def _growth(ratios: dict[int, float]) -> list[Result]:
    """Return by which power of the number of features the ratio grows, where there are several."""
    if len(ratios) < 2:
        return []
    slope = float(np.polyfit(np.log(list(ratios)), np.log(list(ratios.values())), 1)[0])
    return [
        Result(
            name="build_ratio_by_features",
            value=round(slope, 3),
            unit="exponent",
            aim="above 0",
            holds=slope > 0,
            peer="none",
            peer_value=None,
            n=len(ratios),
            details={"ratios": {str(n_features): ratio for n_features, ratio in ratios.items()}},
        )
    ]


def _of_facet(ours: list[dict[str, Any]], which: str) -> Result:
    """Return Facet's own rate in the run of median length, by stage."""
    run = sorted(ours, key=lambda one: one["seconds"])[len(ours) // 2]
    return Result(
        name=f"build_rate: {run['n_features']:,} features",
        value=round(run["n_tokens"] / run["seconds"], 1),
        unit="tokens/s",
        aim="none",
        holds=None,
        peer="none",
        peer_value=None,
        n=run["n_tokens"],
        details={"weights": which, "features": run["n_features"]} | stages(run),
    )


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


def _peer(folder: Path, spec: dict[str, Any], way: str) -> dict[str, Any]:
    path = folder / "spec.json"
    path.write_text(json.dumps(spec | {"way": way, "features_at_a_time": BATCHES[way]}))
    command = [str(environments.python_of("saedashboard")), "-W", "ignore", "-m", PEER, str(path)]
    done = subprocess.run(command, cwd=weights.ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-4000:])
    return json.loads(done.stdout.splitlines()[-1])
