"""A live prompt to ranked features, against TransformerLens and SAELens, which run the whole model and a dense encode.

The peer is in a process of its own, in the environment of the oracles; it takes turns with Facet and measures itself.
Beside it stands the same work in plain PyTorch and transformers, and the floor: the bare forward up to the dictionary's
layer.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from benchmarks import weights
from benchmarks.harness import Result, take_turns
from inference.activations import capture
from inference.prompts import prompt_features
from tests.interop import environments

N_TOKENS, ROUNDS, WARM_UP, TOP = 64, 40, 3, 50
_SOURCE = "2-res-jump"
_PEER = "benchmarks.peers.saelens"


def run() -> list[Result]:
    """Measure one dictionary at two thirds of the depth. Without its environment the peer is left out."""
    loaded = weights.load()
    model = loaded.model
    dictionary = loaded.dictionaries.get(_SOURCE) or next(iter(loaded.dictionaries.values()))
    tokens = model.tokenize(weights.prompt(model, N_TOKENS))
    ids_bt = model.ids_bt(tokens)
    module = model.module.get_submodule(model.resolve(dictionary.hook_in)[1].module)

    def facet() -> None:
        prompt_features(model, {_SOURCE: dictionary}, tokens, top_k=TOP)

    @torch.inference_mode()
    def plain_torch() -> None:
        seen = []
        handle = module.register_forward_hook(
            lambda _module, _args, output: seen.append(output[0] if isinstance(output, tuple) else output)
        )
        model.module(input_ids=ids_bt)
        handle.remove()
        x_td = seen[0][0]
        a_tf = dictionary.activate(dictionary.pre_activations(x_td), x_td).dense()
        best = a_tf[1:].amax(0).topk(TOP)
        a_tf[:, best.indices].T.tolist()

    def forward() -> None:
        capture(model, ids_bt, [dictionary.hook_in])

    sides = {"facet": facet, "plain torch": plain_torch, "forward": forward}
    spec = {
        "model": str(loaded.model_folder),
        "dictionary": str(loaded.dictionary_folders[_SOURCE]),
        "ids": list(tokens.ids),
        "hook_point": dictionary.hook_in,
        "top": TOP,
        "threads": torch.get_num_threads(),
    }
    with _peer(spec) as ask:
        theirs: list[float] = []
        if ask is not None:
            sides["TransformerLens + SAELens"] = lambda: theirs.append(ask())
        seconds = take_turns(sides, rounds=ROUNDS, warm_up=WARM_UP)
    if theirs:
        seconds["TransformerLens + SAELens"] = statistics.median(theirs[WARM_UP:])
    return _results(loaded.which, len(tokens), seconds)


def _results(which: str, n_tokens: int, seconds: dict[str, float]) -> list[Result]:
    details = {
        "weights": which,
        "prompt_tokens": n_tokens,
        "milliseconds": {name: round(1000 * value, 3) for name, value in seconds.items()},
    }
    aims = {"TransformerLens + SAELens": ("live_prompt", 4), "plain torch": ("live_prompt_plain_torch", None)}
    results = [
        Result(
            name=name,
            value=round(seconds[peer] / seconds["facet"], 3),
            unit="times faster",
            aim=f"at least {aim}" if aim else "none",
            holds=seconds[peer] / seconds["facet"] >= aim if aim else None,
            peer=f"{peer}: whole model, dense encode, torch.topk, ms",
            peer_value=round(1000 * seconds[peer], 3),
            n=ROUNDS,
            details=details,
        )
        for peer, (name, aim) in aims.items()
        if peer in seconds
    ]
    over_floor = seconds["facet"] / seconds["forward"]
    results.append(
        Result(
            name="live_prompt_over_forward",
            value=round(over_floor, 3),
            unit="times the bare forward",
            aim="at most 1.15",
            holds=over_floor <= 1.15,
            peer="bare forward up to the layer, ms",
            peer_value=round(1000 * seconds["forward"], 3),
            n=ROUNDS,
            details=details,
        )
    )
    return results


@contextmanager
def _peer(spec: dict) -> Iterator:
    """Yield a function that has the peer answer the prompt once and returns its seconds, None without the peer."""
    if reason := environments.missing("oracles", "sae-lens"):
        print(reason, file=sys.stderr)
        yield None
        return
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(json.dumps(spec))
        file.flush()
        command = [str(environments.python_of("oracles")), "-W", "ignore", "-m", _PEER, file.name]
        pipes = {
            "stdin": subprocess.PIPE,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.DEVNULL,
            "text": True,
            "cwd": weights.ROOT,
        }
        with subprocess.Popen(command, **pipes) as process:

            def ask() -> float:
                process.stdin.write("\n")
                process.stdin.flush()
                return float(process.stdout.readline())

            yield ask
            process.stdin.close()
