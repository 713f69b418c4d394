"""Activations of chosen features, against a full encode of the same tokens."""

from __future__ import annotations

import torch

from benchmarks import weights
from benchmarks.harness import Result, take_turns
from inference.activations import capture

N_TOKENS, N_CHOSEN, ROUNDS = 256, 8, 60


def run() -> list[Result]:
    """Measure every dictionary of the weights, on activations of real text."""
    loaded = weights.load()
    model, results = loaded.model, []
    ids_bt = model.ids_bt(model.tokenize(weights.prompt(model, N_TOKENS)))
    for source, dictionary in loaded.dictionaries.items():
        generator = torch.Generator().manual_seed(0)
        x_td = capture(model, ids_bt, [dictionary.hook_in])[dictionary.hook_in][0]
        chosen = torch.randperm(dictionary.n_features, generator=generator)[:N_CHOSEN]
        seconds = take_turns(
            {
                "chosen": lambda d=dictionary, x=x_td, i=chosen: d.encode_features(x, i),
                "full": lambda d=dictionary, x=x_td: d.encode(x),
            },
            rounds=ROUNDS,
        )
        ratio = seconds["full"] / seconds["chosen"]
        results.append(
            Result(
                name=f"encode_features_{dictionary.config.architecture}_{source}",
                value=round(ratio, 2),
                unit="times faster",
                aim="at least 20",
                holds=ratio >= 20,
                peer="full encode",
                peer_value=round(1000 * seconds["full"], 3),
                n=ROUNDS,
                details={
                    "weights": loaded.which,
                    "tokens": len(x_td),
                    "chosen": N_CHOSEN,
                    "features": dictionary.n_features,
                    "milliseconds": round(1000 * seconds["chosen"], 3),
                },
            )
        )
    return results
