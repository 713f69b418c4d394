"""A live prompt to ranked features, against TransformerLens and SAELens, which run the whole model and a dense encode.

Two models: the demonstration's (4 layers of 192, 2,048 features), where what happens between products is most of the
time, and one of the size of GPT-2 small with 24,576 features behind its eighth layer of twelve; prompts of 13, 64 and
250 tokens. The peer is in a process of its own, in the environment of the oracles, with the same weights, ids and
number of threads. Sides take turns of a fifth of a second, in which they repeat themselves; `single_calls` are turns of
one call, for which the other sides have emptied the caches.

There are two floors, both forward passes that end at the dictionary's layer: Facet's own, and that of transformers as
it comes, which multiplies more slowly where MKL does (`kernels.affine`). `answer` is what the engine sends for a text
that it has not read, from characters to JSON, and `again` the same for one that it has.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import torch
from transformers import AutoModelForCausalLM

from benchmarks import weights
from benchmarks.harness import Result, turns
from inference.activations import capture
from inference.prompts import prompt_features
from inference.readings import Readings
from inference.serving import DictionarySpec, Engine, ModelSpec
from inference.values import Tokens
from tests.interop import environments

PROMPTS, TOP = (13, 64, 250), 50
ROUNDS, SINGLE_ROUNDS, WARM_UP, TURN_SECONDS = 12, 8, 2, 0.2
PEER = "TransformerLens + SAELens"
_MODULE = "benchmarks.peers.saelens"
# Runs a prompt of so many tokens for so many seconds and returns the mean of what one run took.
Ask = Callable[[int, float], float]


class _Reached(Exception):
    """Ends a forward pass of transformers."""


def run() -> list[Result]:
    """Measure both models at every length. Without its environment the peer is left out."""
    results = []
    for loaded, source in ((weights.load(), "2-res-jump"), (weights.load_wide(), "7-res-topk")):
        text = weights.prompt(loaded.model, max(PROMPTS))
        ids = list(loaded.model.tokenize(text).ids)
        make_sides = _sides_of(loaded, source)
        with _peer(loaded, source, ids) as ask:
            for n_tokens in PROMPTS:
                sides = make_sides(loaded.model.tokenize(text, max_tokens=n_tokens, truncate=True))
                seconds = _measured(sides, n_tokens, ask, rounds=ROUNDS, turn_seconds=TURN_SECONDS)
                single = _measured(sides, n_tokens, ask, rounds=SINGLE_ROUNDS, turn_seconds=0)
                results += _results(loaded, source, n_tokens, seconds, single)
    return results


def _sides_of(loaded: weights.Weights, source: str) -> Callable[[Tokens], dict[str, Callable]]:
    """Return what makes the sides of a prompt; what they run on is loaded once."""
    model, dictionary = loaded.model, loaded.dictionaries[source]
    plain = AutoModelForCausalLM.from_pretrained(loaded.model_folder).eval()
    site = plain.get_submodule(model.resolve(dictionary.hook_in)[1].module)
    engine = Engine(worker="benchmark", capacity_bytes=8 << 30)
    where = ModelSpec(slug=model.name, path=str(loaded.model_folder), revision=None)
    spec = DictionarySpec(source=source, path=str(loaded.dictionary_folders[source]), sha256="", scales=None)
    controls = {"rank": "max", "density": None, "positions": None, "top": TOP, "truncate": False}

    def sides(tokens: Tokens) -> dict[str, Callable]:
        ids_bt = model.ids_bt(tokens)

        def facet() -> None:
            prompt_features(model, {source: dictionary}, tokens, top_k=TOP)

        def forward() -> None:
            capture(model, ids_bt, [dictionary.hook_in])

        @torch.inference_mode()
        def transformers_forward() -> None:
            handle = site.register_forward_hook(_stop)
            with suppress(_Reached):
                plain.base_model(input_ids=ids_bt, use_cache=False)
            handle.remove()

        def again() -> None:
            json.dumps(engine.prompt_features(where, [spec], text=tokens.text, **controls))

        def answer() -> None:
            engine.readings = Readings(engine.readings.kept.capacity_bytes)
            again()

        return {
            "facet": facet,
            "forward": forward,
            "forward of transformers": transformers_forward,
            "answer": answer,
            "again": again,
        }

    return sides


def _stop(module: torch.nn.Module, args: tuple, output: object) -> None:
    raise _Reached


def _measured(
    sides: dict[str, Callable], n_tokens: int, ask: Ask | None, *, rounds: int, turn_seconds: float
) -> dict[str, float]:
    """Return each side's median seconds; the peer's are those that it measured itself."""
    theirs: list[float] = []
    with_peer = sides if ask is None else sides | {PEER: lambda: theirs.append(ask(n_tokens, turn_seconds))}
    seconds = turns(with_peer, rounds=rounds, warm_up=WARM_UP, turn_seconds=turn_seconds)
    if theirs:
        seconds[PEER] = theirs[-rounds:]
    return {name: statistics.median(values) for name, values in seconds.items()}


def _results(
    loaded: weights.Weights, source: str, n_tokens: int, seconds: dict[str, float], single: dict[str, float]
) -> list[Result]:
    model, dictionary = loaded.model, loaded.dictionaries[source]
    size = f"{model.n_layers} x {model.d_model}, {dictionary.n_features:,} features, {n_tokens} tokens"
    details = {
        "weights": loaded.which,
        "architecture": dictionary.config.architecture,
        "hook_point": dictionary.hook_in,
        "layers": model.n_layers,
        "prompt_tokens": n_tokens,
        "milliseconds": _milliseconds(seconds),
        "milliseconds_of_single_calls": _milliseconds(single),
    }
    shared = {"n": ROUNDS, "details": details}
    results = []
    if PEER in seconds:
        ratio = seconds[PEER] / seconds["facet"]
        results.append(
            Result(
                name=f"live_prompt: {size}",
                value=round(ratio, 3),
                unit="times faster",
                aim="at least 4",
                holds=ratio >= 4,
                peer=f"{PEER}: whole model, dense encode, torch.topk, ms",
                peer_value=round(1000 * seconds[PEER], 3),
                **shared,
            )
        )
    floors = {"forward": "live_prompt_over_forward", "forward of transformers": "live_prompt_over_transformers"}
    for floor, name in floors.items():
        over = seconds["facet"] / seconds[floor]
        results.append(
            Result(
                name=f"{name}: {size}",
                value=round(over, 3),
                unit="times the bare forward",
                aim="at most 1.15",
                holds=over <= 1.15,
                peer=f"bare {floor}, up to the layer, ms",
                peer_value=round(1000 * seconds[floor], 3),
                **shared,
            )
        )
    return results


def _milliseconds(seconds: dict[str, float]) -> dict[str, float]:
    return {name: round(1000 * value, 3) for name, value in seconds.items()}


@contextmanager
def _peer(loaded: weights.Weights, source: str, ids: list[int]) -> Iterator[Ask | None]:
    """Yield a function that has the peer answer the beginning of a prompt, None without the peer."""
    if reason := environments.missing("oracles", "sae-lens"):
        print(reason, file=sys.stderr)
        yield None
        return
    spec = {
        "model": str(loaded.model_folder),
        "dictionary": str(loaded.dictionary_folders[source]),
        "ids": ids,
        "hook_point": loaded.dictionaries[source].hook_in,
        "top": TOP,
        "threads": torch.get_num_threads(),
    }
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(json.dumps(spec))
        file.flush()
        command = [str(environments.python_of("oracles")), "-W", "ignore", "-m", _MODULE, file.name]
        pipes = {
            "stdin": subprocess.PIPE,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.DEVNULL,
            "text": True,
            "cwd": weights.ROOT,
        }
        with subprocess.Popen(command, **pipes) as process:

            def ask(n_tokens: int, turn_seconds: float) -> float:
                process.stdin.write(f"{n_tokens} {turn_seconds}\n")
                process.stdin.flush()
                return float(process.stdout.readline())

            yield ask
            process.stdin.close()
