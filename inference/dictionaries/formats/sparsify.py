"""EleutherAI's sparsify: a folder named by its hook point, with cfg.json and sae.safetensors.

Semantics follow sparsify 1.3 (https://github.com/EleutherAI/sparsify): SAEs subtract `b_dec` from their input and
transcoders do not; TopK keeps k activations behind a ReLU, GroupMax the largest of each of k groups, and the older
`signed` the k of largest magnitude with their sign. An SAE reads a module's output; a transcoder reads its input.
Transcoders from before February 2025, of which only the run's config.json says that they are, do subtract `b_dec`.
"""

from __future__ import annotations

from inference.dictionaries.config import DictionaryConfig, UnsupportedDictionary
from inference.dictionaries.formats.names import hook_point
from inference.dictionaries.formats.place import Place, Verdict
from inference.dictionaries.formats.tensors import present

LAYOUT = "cfg.json + sae.safetensors"
CONFIG, WEIGHTS = "cfg.json", "sae.safetensors"
ARCHITECTURES = {"topk": "topk", "groupmax": "groupmax", "signed": "abstopk"}
TENSORS = {
    "w_enc_fd": "encoder.weight",
    "b_enc_f": "encoder.bias",
    "w_dec_fo": "W_dec",
    "b_out_o": "b_dec",
    "w_skip_do": "W_skip.T",
}


def detect(place: Place) -> Verdict:
    return place.files(CONFIG, WEIGHTS)


def read_config(place: Place) -> DictionaryConfig:
    cfg = place.json(CONFIG)
    weights = place.weights(WEIGHTS)
    activation = "signed" if cfg.get("signed") else cfg.get("activation", "topk")
    if activation not in ARCHITECTURES:
        raise UnsupportedDictionary(
            f"{place.folder / CONFIG} has activation {activation!r}, which Facet does not compute.",
            f"Supported are: {', '.join(ARCHITECTURES)}.",
            activation=activation,
        )
    if others := [key for key in ("n_targets", "n_sources") if cfg.get(key)]:
        raise UnsupportedDictionary(
            f"{place.folder / CONFIG} has {others[0]} {cfg[others[0]]}: it is a layer of clt-training's cross-layer "
            "transcoders, whose layers share values and decoders in ways that the files do not tell.",
            "Facet reads cross-layer transcoders of circuit-tracer, llamascopium, crosslayer-coding and Gemma Scope 2.",
        )
    module = place.folder.name
    run = place.folder.parent / "config.json"
    told = Place(run.parent).json(run.name) if run.is_file() else {}
    # At first the run said it, and `b_dec` was subtracted from a transcoder's input too.
    is_early = "transcode" not in cfg and bool(told.get("transcode"))
    transcodes = is_early or bool(cfg.get("transcode"))
    model_name = str(told.get("model", ""))
    evidence = [f"{CONFIG} and {WEIGHTS} as sparsify writes them; the folder is named {module}, a module of the model."]
    if not told:
        evidence.append("No config.json of the run beside the folder: the model's name is not known.")
    if is_early:
        evidence.append("The run's config.json, and not cfg.json, says transcode: as then, b_dec is subtracted first.")
    return place.describe(
        weights,
        format="sparsify",
        architecture=ARCHITECTURES[activation],
        tensors=present(weights, TENSORS, optional=("w_skip_do",)),
        hook_in=hook_point(module, end="input" if transcodes else "output", model_name=model_name),
        hook_out=hook_point(module, model_name=model_name) if transcodes else None,
        k=cfg.get("k"),
        subtract_output_bias=not transcodes or is_early,
        model_name=model_name,
        # Its tokenizer adds none of its own.
        prepend_bos=False,
        context_size=told.get("ctx_len"),
        metadata=cfg,
        evidence=tuple(evidence),
    )
