"""Activations of chosen features, against a full encode of the same tokens.

Both with one thread: chosen features take tens of microseconds, which no second thread shortens, while a full encode
with two threads waits for whatever else the machine does on the other core. That, and turns of one call each, once made
this ratio 8 or 44 by the load of the machine.

`known`: the k-th scores of a full encode of these tokens are at hand, as the engine has them for every text that it
read lately. Without them a chosen feature of a TopK dictionary has to be compared with all the others, whose product
alone is a third of a full encode: no exact way found meets the aim. Several features are then picked from a full encode
(`times_faster_than_picking` says that this costs nothing more); `single` is one feature, compared only as long as it
must be.
"""

from __future__ import annotations

import statistics

import torch

from benchmarks import weights
from benchmarks.harness import Result, spread, threads, turns
from inference.activations import capture

N_TOKENS, N_CHOSEN, ROUNDS, TURN_SECONDS = 256, 8, 30, 0.03


def run() -> list[Result]:
    """Measure every dictionary of the weights, on activations of real text."""
    loaded = weights.load()
    model, results = loaded.model, []
    ids_bt = model.ids_bt(model.tokenize(weights.prompt(model, N_TOKENS)))
    for source, dictionary in loaded.dictionaries.items():
        generator = torch.Generator().manual_seed(0)
        x_td = capture(model, ids_bt, [dictionary.hook_in])[dictionary.hook_in][0]
        chosen = torch.randperm(dictionary.n_features, generator=generator)[:N_CHOSEN]
        known_t = dictionary.kth_scores(dictionary.encode(x_td))
        ways = [("", chosen, None)]
        if known_t is not None:
            ways += [("single", chosen[:1], None), ("known", chosen, known_t)]
        for way, indices_m, kth_t in ways:
            sides = {
                "chosen": lambda d=dictionary, x=x_td, i=indices_m, kth=kth_t: d.encode_features(x, i, kth_t=kth),
                "full": lambda d=dictionary, x=x_td: d.encode(x),
                "picked": lambda d=dictionary, x=x_td, i=indices_m: d.encode(x).columns(i),
            }
            words = "encode_features", dictionary.config.architecture, source, way
            with threads(1):
                seconds = turns(sides, rounds=ROUNDS, turn_seconds=TURN_SECONDS)
            with_all = turns(sides, rounds=ROUNDS // 3, turn_seconds=TURN_SECONDS)
            ratio = _ratio(seconds)
            results.append(
                Result(
                    name="_".join(name for name in words if name),
                    value=round(ratio, 2),
                    unit="times faster",
                    aim="at least 20",
                    holds=ratio >= 20,
                    peer="full encode",
                    peer_value=spread(seconds["full"])[1],
                    n=ROUNDS,
                    details={
                        "weights": loaded.which,
                        "tokens": len(x_td),
                        "chosen": len(indices_m),
                        "features": dictionary.n_features,
                        "milliseconds": spread(seconds["chosen"])[1],
                        "milliseconds_p20_p50_p80": {name: spread(values) for name, values in seconds.items()},
                        "threads": 1,
                        "times_faster_than_picking": round(_ratio(seconds, "picked"), 2),
                        f"times_faster_with_{torch.get_num_threads()}_threads": round(_ratio(with_all), 2),
                    },
                )
            )
    return results


def _ratio(seconds: dict[str, list[float]], peer: str = "full") -> float:
    return statistics.median(seconds[peer]) / statistics.median(seconds["chosen"])
