"""Multi-layer SAEs (https://arxiv.org/abs/2409.04185): config.json + model.safetensors, one dictionary for all layers.

    x' = (x - mean) / (deviation + 1e-5);  h = (x' - b) E.T;  y = (a D.T + b) deviation + mean;  b = pre_encoder_bias

with TopK behind a ReLU. It reads and rebuilds the residual stream behind any layer, so that each layer is a part of the
path, `mlsae-pythia-70m-deduped-x64-k32#3`, and all share the weights. Repositories whose names end in `-tfm` hold the
model too, and put `autoencoder.` before the dictionary's names. https://github.com/tim-lawson/mlsae
"""

from __future__ import annotations

from inference.dictionaries.config import DictionaryConfig, UnsupportedDictionary
from inference.dictionaries.formats.place import OVERRIDES, Place, Verdict, no, yes
from inference.dictionaries.storage import Weights

LAYOUT = "config.json + model.safetensors with pre_encoder_bias"
CONFIG, WEIGHTS = "config.json", "model.safetensors"
ARCHITECTURES = {"topk": "topk"}
TENSORS = {"w_enc_fd": "encoder.weight", "w_dec_fo": "decoder.weight.T", "b_out_o": "pre_encoder_bias"}
PREFIX = "autoencoder."
# Layers of the models that were published; a config says which layers only where not all were taken.
LAYERS = {
    "pythia-14m": 6,
    "pythia-31m": 6,
    "pythia-70m": 6,
    "pythia-160m": 12,
    "pythia-410m": 24,
    "pythia-1b": 16,
    "pythia-1.4b": 24,
    "pythia-2.8b": 32,
    "pythia-6.9b": 32,
    "pythia-12b": 36,
    "gpt2": 12,
    "gemma-2-2b": 26,
    "Llama-3.2-3B": 28,
}


def detect(place: Place) -> Verdict:
    there = place.files(CONFIG, WEIGHTS)
    if not there.fits:
        return there
    weights = place.weights(WEIGHTS)
    names = [_prefix(weights) + name.removesuffix(".T") for name in TENSORS.values()]
    absent = [name for name in names if name not in weights]
    return no(f"{WEIGHTS} has no {absent[0]}") if absent else yes(f"{WEIGHTS} has pre_encoder_bias")


def parts(place: Place) -> list[str]:
    """Return the layers that the dictionary was trained on, none where facet.json states one hook point."""
    if "hook_in" in place.overrides:
        return []
    layers = place.json(CONFIG).get("layers")
    name = _model_name(place).rpartition("/")[2].removesuffix("-deduped")
    if layers is None and name in LAYERS:
        layers = range(LAYERS[name])
    if layers is None:
        raise UnsupportedDictionary(
            f"{place.folder / CONFIG} does not say which layers of which model the dictionary was trained on.",
            f'Write {{"hook_in": "blocks.N.hook_resid_post"}}, with the layer that you want, to {OVERRIDES} there.',
        )
    return [str(layer) for layer in layers]


def read_config(place: Place) -> DictionaryConfig:
    cfg = place.json(CONFIG)
    weights = place.weights(WEIGHTS)
    if cfg.get("tuned_lens"):
        raise UnsupportedDictionary(
            f"{place.folder / CONFIG} has tuned_lens: it reads what a tuned lens makes of the residual stream.",
            "Facet runs those that read the residual stream itself.",
            tuned_lens=True,
        )
    prefix = _prefix(weights)
    return place.describe(
        weights,
        format="mlsae",
        architecture="topk",
        tensors={canonical: prefix + name for canonical, name in TENSORS.items()},
        hook_in=f"blocks.{place.part}.hook_resid_post" if place.part else None,
        k=cfg.get("k"),
        normalize="layer_norm" if cfg.get("standardize", True) else "none",
        subtract_output_bias=True,
        model_name=_model_name(place),
        # Its tokenizer adds none of its own.
        prepend_bos=False,
        context_size=cfg.get("max_length"),
        metadata=cfg,
        evidence=(
            f"{WEIGHTS} has the tensors of a multi-layer SAE{', beside those of its model' if prefix else ''}.",
            "One dictionary serves every layer: its other parts have the same features.",
        ),
    )


def _prefix(weights: Weights) -> str:
    return PREFIX if f"{PREFIX}pre_encoder_bias" in weights else ""


def _model_name(place: Place) -> str:
    if told := place.overrides.get("model_name") or place.json(CONFIG).get("model_name"):
        return str(told)
    named = place.search(r"mlsae-(?P<model>[\w.-]+?)-x\d+-k\d+")
    if named is None:
        return ""
    return f"EleutherAI/{named['model']}" if named["model"].startswith("pythia") else named["model"]
