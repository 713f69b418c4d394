"""Plain vectors with labels: vectors.safetensors + vectors.json. Probes, differences of means, ReFT-r1 directions.

    a = relu(x vectors.T + bias), or a [a > threshold] where thresholds are given;  y = a decoder

`vectors` is (F, D); `bias` (F), `threshold` (F) and `decoder` (F, O) are optional, and without `decoder` a vector
writes what it reads. vectors.json says `hook_in`, and may say `hook_out`, `model_name`, and a label for each vector in
`labels`.
"""

from __future__ import annotations

from inference.dictionaries.config import DictionaryConfig
from inference.dictionaries.formats.place import Place, Verdict
from inference.dictionaries.formats.tensors import present
from inference.dictionaries.storage import damaged

LAYOUT = "vectors.json + vectors.safetensors"
CONFIG, WEIGHTS = "vectors.json", "vectors.safetensors"
ARCHITECTURES = {"relu": "relu", "jumprelu": "jumprelu"}
TENSORS = {"w_enc_fd": "vectors", "b_enc_f": "bias", "threshold_f": "threshold", "w_dec_fo": "decoder"}


def detect(place: Place) -> Verdict:
    return place.files(CONFIG, WEIGHTS)


def read_config(place: Place) -> DictionaryConfig:
    cfg = place.json(CONFIG)
    weights = place.weights(WEIGHTS)
    tensors = {"w_dec_fo": "vectors"} | present(weights, TENSORS, optional=("b_enc_f", "threshold_f", "w_dec_fo"))
    labels = cfg.get("labels") or []
    n_vectors = weights.shape("vectors")[0]
    if labels and len(labels) != n_vectors:
        raise damaged(place.folder / CONFIG, f"it has {len(labels)} labels for {n_vectors} vectors")
    return place.describe(
        weights,
        format="vectors",
        architecture="jumprelu" if "threshold_f" in tensors else "relu",
        tensors=tensors,
        hook_in=cfg.get("hook_in"),
        hook_out=cfg.get("hook_out"),
        model_name=str(cfg.get("model_name") or ""),
        prepend_bos=bool(cfg.get("prepend_bos", True)),
        metadata=cfg,
        evidence=(f"{CONFIG} and {WEIGHTS}: {n_vectors} vectors, {'labelled' if labels else 'without labels'}.",),
    )
