"""saev: sae.pt, a line of JSON before PyTorch's archive.

    h = x W_enc + b_enc;  y = a W_dec + b_dec, nothing subtracted

with ReLU, TopK without a ReLU, or BatchTopK, h where h > max(threshold, 0). The line says which, in one of five
schemas; nothing says where the dictionary reads, mostly in a vision model. https://github.com/OSU-NLP-Group/saev
"""

from __future__ import annotations

import json
from typing import Any

from inference.dictionaries.config import DictionaryConfig, UnsupportedDictionary
from inference.dictionaries.formats.place import Place, Verdict, no, yes
from inference.dictionaries.storage import damaged

LAYOUT = "one .pt file behind a line of JSON"
MAX_HEADER_BYTES = 1 << 20
ARCHITECTURES = {"Relu": "relu", "TopK": "signed_topk", "BatchTopK": "batchtopk"}
TENSORS = {"w_enc_fd": "W_enc.T", "b_enc_f": "b_enc", "w_dec_fo": "W_dec", "b_out_o": "b_dec"}


def detect(place: Place) -> Verdict:
    name = place.only(".pt")
    if name is None:
        return no("no single .pt file")
    with place.inside(name).open("rb") as file:
        starts = file.read(1) == b"{"
    return yes(f"{name} begins with JSON") if starts else no(f"{name} does not begin with JSON")


def read_config(place: Place) -> DictionaryConfig:
    weights = place.weights(place.only(".pt"))
    header = _header(place)
    name, params = _activation(header)
    if name not in ARCHITECTURES:
        raise UnsupportedDictionary(
            f"{weights.path} has activation {name!r}, which Facet does not compute.",
            f"Supported are: {', '.join(ARCHITECTURES)}.",
            activation=name,
        )
    competes = name == "BatchTopK"
    return place.describe(
        weights,
        format="saev",
        by_file=True,
        architecture=ARCHITECTURES[name],
        tensors=TENSORS | ({"threshold_f": "activation.threshold"} if competes else {}),
        hook_in=None,
        k=params.get("top_k", 32) if name != "Relu" else None,
        metadata={"schema": header.get("schema", 0), "activation": name},
        evidence=(
            f"{weights.path.name} begins with a line of JSON, as saev writes it: schema {header.get('schema', 0)}, "
            f"activation {name}.",
        ),
    )


def _header(place: Place) -> dict[str, Any]:
    path = place.inside(place.only(".pt"))
    with path.open("rb") as file:
        line = file.readline(MAX_HEADER_BYTES)
    try:
        header = json.loads(line)
    except ValueError as error:
        raise damaged(path, "its first line is not JSON") from error
    if not isinstance(header, dict):
        raise damaged(path, "its first line is not a JSON object")
    return header


def _activation(header: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the activation's class and its parameters, from any of the schemas."""
    if "schema" not in header:
        return "Relu", {}
    cfg = header.get("cfg") or {}
    if header.get("cls") in ARCHITECTURES:
        return header["cls"], cfg
    told = cfg.get("activation") or {}
    return str(told.get("cls", "TopK")), told.get("params") or {}
