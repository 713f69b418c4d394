"""Llama Scope R1 Distill: JumpReLU SAEs in sae_weights.safetensors with logarithms of thresholds, and config.json.

    h = s x E + b_enc;  a = h [h > exp(log threshold)];  y = (a D + b_dec) / s

The factor s = sqrt(D) / mean |x| is not in the checkpoint: catalogues list it, and facet.json states it here.
"""

from __future__ import annotations

from inference.dictionaries.config import DictionaryConfig, UnsupportedDictionary
from inference.dictionaries.formats.place import OVERRIDES, Place, Verdict, no, yes

LAYOUT = "config.json + sae_weights.safetensors with log_jumprelu_threshold"
CONFIG, WEIGHTS = "config.json", "sae_weights.safetensors"
ARCHITECTURES = {"jumprelu": "jumprelu"}
TENSORS = {
    "w_enc_fd": "encoder.weight",
    "b_enc_f": "encoder.bias",
    "w_dec_fo": "decoder.weight.T",
    "b_out_o": "decoder.bias",
    "log_threshold_f": "log_jumprelu_threshold",
}


def detect(place: Place) -> Verdict:
    there = place.files(CONFIG, WEIGHTS)
    if not there.fits:
        return there
    has_thresholds = TENSORS["log_threshold_f"] in place.weights(WEIGHTS)
    return yes(f"{WEIGHTS} has log_jumprelu_threshold") if has_thresholds else no(f"{WEIGHTS} has other tensors")


def read_config(place: Place) -> DictionaryConfig:
    """Return the facts; raise UnsupportedDictionary without the factor, as other features would fire."""
    cfg = place.json(CONFIG)
    if "input_scale" not in place.overrides:
        raise UnsupportedDictionary(
            f"{place.folder} does not hold the factor that its inputs were scaled by in training.",
            f'Write {{"input_scale": FACTOR}} to {OVERRIDES} there; SAELens lists it as norm_scaling_factor.',
        )
    return place.describe(
        place.weights(WEIGHTS),
        format="llama_scope_r1",
        architecture="jumprelu",
        tensors=TENSORS,
        hook_in=cfg.get("hook_point_in"),
        hook_out=cfg.get("hook_point_out"),
        model_name="deepseek-ai/DeepSeek-R1-Distill-Llama-8B",
        context_size=1024,
        metadata=cfg,
        evidence=(f"{CONFIG} and {WEIGHTS} as Llama Scope R1 Distill has them.",),
    )
