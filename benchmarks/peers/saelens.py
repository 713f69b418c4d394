"""The live prompt as TransformerLens and SAELens answer it: run as a module, in its own environment, with a JSON file.

For each line on standard input, a number of tokens and one of seconds, it runs the beginning of the prompt, whole
model, dense encode and torch.topk, until that many seconds have passed, and prints the mean of what one run took.
Imports nothing of Facet.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from benchmarks.peers.hooked import hooked_model


def main(path: str) -> None:
    spec = json.loads(Path(path).read_text())
    import torch
    from sae_lens import SAE

    torch.set_num_threads(spec["threads"])
    torch.set_grad_enabled(False)
    model = hooked_model(Path(spec["model"]))
    sae = SAE.load_from_disk(spec["dictionary"], device="cpu")
    for line in sys.stdin:
        n_tokens, turn_seconds = line.split()
        ids_bt = torch.tensor([spec["ids"][: int(n_tokens)]])
        started, count = time.perf_counter(), 0
        while count == 0 or time.perf_counter() - started < float(turn_seconds):
            _, cache = model.run_with_cache(ids_bt, names_filter=spec["hook_point"])
            a_tf = sae.encode(cache[spec["hook_point"]])[0]
            best = a_tf[1:].amax(0).topk(spec["top"])
            a_tf[:, best.indices].T.tolist()
            count += 1
        print((time.perf_counter() - started) / count, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
