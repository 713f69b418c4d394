"""Building dashboards: tokens a second by stage, with all dictionaries of the model in one pass, and peak memory."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time

from benchmarks import weights
from benchmarks.harness import Result
from inference.dashboards import run_pass

N_TOKENS = 1_000_000
_AIM_SECONDS, _AIM_BYTES = 180, 2_000_000_000


def run() -> list[Result]:
    """Build in a process of its own, so that its peak memory is the build's."""
    command = [sys.executable, "-m", "benchmarks.build_tokens", str(N_TOKENS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    facts = json.loads(done.stdout.splitlines()[-1])
    measured, n_tokens = facts["measurements"], facts["n_tokens"]
    seconds, aim_seconds = measured["seconds"], _AIM_SECONDS * n_tokens / 1_000_000
    details = {
        "weights": facts["which"],
        "tokens": n_tokens,
        "features": facts["n_features"],
        "dictionaries": facts["n_dictionaries"],
        "seconds": seconds,
        "precision": facts["precision"],
        "cpu_seconds": facts["cpu_seconds"],
        "tokens_per_second_by_stage": {
            stage: round(n_tokens / spent) for stage, spent in measured["seconds_by_stage"].items() if spent > 0.05
        },
    }
    return [
        Result(
            name="build_tokens",
            value=measured["tokens_per_second"],
            unit="tokens/s",
            aim=f"1,000,000 tokens in {_AIM_SECONDS} s on 2 idle cores",
            holds=seconds <= aim_seconds,
            peer="none",
            peer_value=None,
            n=n_tokens,
            details=details,
        ),
        Result(
            name="build_tokens_memory",
            value=measured["peak_memory_bytes"],
            unit="bytes",
            aim=f"at most {_AIM_BYTES:,}",
            holds=measured["peak_memory_bytes"] <= _AIM_BYTES,
            peer="none",
            peer_value=None,
            n=n_tokens,
            details={"weights": facts["which"]},
        ),
    ]


def _build(n_tokens: int) -> dict[str, object]:
    loaded = weights.load()
    started = time.process_time()
    with tempfile.TemporaryDirectory() as workdir:
        result = run_pass(loaded.model, loaded.dictionaries, weights.documents(), workdir=workdir, n_tokens=n_tokens)
    return {
        "which": loaded.which,
        "n_tokens": result.contexts.n_tokens,
        "n_features": sum(board.n_features for board in result.dashboards.values()),
        "n_dictionaries": len(result.dashboards),
        "precision": result.provenance["precision"],
        "measurements": result.measurements,
        "cpu_seconds": round(time.process_time() - started, 1),
    }


if __name__ == "__main__":
    print(json.dumps(_build(int(sys.argv[1]))))
