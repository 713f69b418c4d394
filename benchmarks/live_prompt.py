"""A live prompt to ranked features, against running the whole model with a dense encode and torch.topk.

The peer here is plain PyTorch and transformers: what TransformerLens and SAELens do, without their overhead. The
floor is the bare forward up to the dictionary's layer.
"""

from __future__ import annotations

import torch

from benchmarks import weights
from benchmarks.harness import Result, take_turns
from inference.activations import capture
from inference.prompts import prompt_features

N_TOKENS, ROUNDS, TOP = 64, 40, 50
_SOURCE = "2-res-jump"


def run() -> list[Result]:
    """Measure one dictionary at two thirds of the depth."""
    loaded = weights.load()
    model = loaded.model
    dictionary = loaded.dictionaries.get(_SOURCE) or next(iter(loaded.dictionaries.values()))
    tokens = model.tokenize(weights.prompt(model, N_TOKENS))
    ids_bt = model.ids_bt(tokens)
    module = model.module.get_submodule(model.resolve(dictionary.hook_in)[1].module)

    def facet() -> None:
        prompt_features(model, {_SOURCE: dictionary}, tokens, top_k=TOP)

    @torch.inference_mode()
    def whole_model() -> None:
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

    seconds = take_turns({"facet": facet, "whole": whole_model, "forward": forward}, rounds=ROUNDS)
    details = {
        "weights": loaded.which,
        "prompt_tokens": len(tokens),
        "milliseconds": {name: round(1000 * value, 3) for name, value in seconds.items()},
    }
    ratio, over_floor = seconds["whole"] / seconds["facet"], seconds["facet"] / seconds["forward"]
    return [
        Result(
            name="live_prompt",
            value=round(ratio, 3),
            unit="times faster",
            aim="at least 4 than TransformerLens + SAELens; this peer is plain torch",
            holds=ratio >= 4,
            peer="whole model + dense encode + torch.topk",
            peer_value=round(1000 * seconds["whole"], 3),
            n=ROUNDS,
            details=details,
        ),
        Result(
            name="live_prompt_over_forward",
            value=round(over_floor, 3),
            unit="times the bare forward",
            aim="at most 1.15",
            holds=over_floor <= 1.15,
            peer="bare forward up to the layer",
            peer_value=round(1000 * seconds["forward"], 3),
            n=ROUNDS,
            details=details,
        ),
    ]
