"""Crosscoders of two models (https://github.com/ckkissane/crosscoder-model-diff-replication): cc_weights.pt + cfg.json.

    a = relu(sum over models of s_m x_m W_m + b);  y_m = (a D_m + c_m) / s_m

The factors s = sqrt(D) / mean |x| are in no file; those of the published crosscoder of Gemma 2 2B and its chat model
are known. A hook point of two models has the model's name and a slash before it; `hook_in` in facet.json restates these
by the names that the models have here.
"""

from __future__ import annotations

from inference.dictionaries.config import DictionaryConfig, UnsupportedDictionary
from inference.dictionaries.formats.place import OVERRIDES, Place, Verdict

LAYOUT = "cc_weights.pt + cfg.json"
CONFIG, WEIGHTS = "cfg.json", "cc_weights.pt"
ARCHITECTURES = {"crosscoder": "relu"}
PUBLISHED = {("gemma-2-2b", "blocks.14.hook_resid_pre"): (0.2758961493232058, 0.24422852496546169)}


def detect(place: Place) -> Verdict:
    return place.files(CONFIG, WEIGHTS)


def read_config(place: Place) -> DictionaryConfig:
    """Return the facts; raise UnsupportedDictionary without the factors, as other features would fire."""
    cfg = place.json(CONFIG)
    model, hook = str(cfg.get("model_name") or ""), str(cfg.get("hook_point") or "")
    scales = PUBLISHED.get((model, hook))
    sentence = "The factors of its inputs are those that its authors published."
    if "input_scale" in place.overrides:
        sentence = f"The factors of its inputs are those of {OVERRIDES}."
    elif scales is None:
        raise UnsupportedDictionary(
            f"{place.folder} does not hold the factors that its two inputs were scaled by in training.",
            f'Write {{"input_scale": [FACTOR, FACTOR]}} to {OVERRIDES} there: sqrt(width) / mean length of each model.',
        )
    return place.describe(
        place.weights(WEIGHTS),
        format="model_diff",
        architecture="relu",
        tensors={
            "w_enc_fd": "W_enc[0].T | W_enc[1].T",
            "b_enc_f": "b_enc",
            "w_dec_fo": "W_dec[:,0:2]",
            "b_out_o": "b_dec[0] | b_dec[1]",
        },
        hook_in=f"{model}/{hook}+{model}-it/{hook}" if hook else None,
        **({"input_scale": scales, "output_scale": scales} if scales else {}),
        model_name=model,
        metadata=cfg,
        evidence=(
            f"{CONFIG} and {WEIGHTS} as crosscoder-model-diff writes them, for a model and its chat model.",
            sentence,
        ),
    )
