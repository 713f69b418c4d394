"""e2e_sae (https://arxiv.org/abs/2405.12241): a .pt file of SAEs named by their hook points, with hyphens for dots.

    a = relu(x encoder.0.weight.T + encoder.0.bias);  y = a D + decoder.bias, D the decoder's columns at length one

as in `blocks-6-hook_resid_pre.encoder.0.weight`. A file may hold several: each is a part of the path,
`samples_400000.pt#blocks.6.hook_resid_pre`. Its models are TransformerLens' as they come, GPT-2 with centred weights;
final_config.yaml beside it names the model. https://github.com/ApolloResearch/e2e_sae
"""

from __future__ import annotations

import re
from typing import Any

from inference.dictionaries.config import DictionaryConfig
from inference.dictionaries.formats import centring
from inference.dictionaries.formats.place import Place, Verdict, no, yes
from inference.dictionaries.storage import Weights, damaged

LAYOUT = "one .pt file with blocks-N-SITE.encoder.0.weight"
CONFIG = "final_config.yaml"
ARCHITECTURES = {"relu": "relu"}
TENSORS = {
    "w_enc_fd": "encoder.0.weight",
    "b_enc_f": "encoder.0.bias",
    "w_dec_fo": "decoder.weight.T",
    "b_out_o": "decoder.bias",
}
_KEY = re.compile(r"(?P<place>(?:blocks-\d+-)?[\w-]+)\.encoder\.0\.weight")


def detect(place: Place) -> Verdict:
    name = place.only(".pt")
    if name is None:
        return no("no single .pt file")
    places = _places(place.weights(name))
    return (
        yes(f"{name} has SAEs of {', '.join(places)}") if places else no(f"{name} has no tensor named by a hook point")
    )


def parts(place: Place) -> list[str]:
    """Return the hook points of a file's dictionaries, none where there is one."""
    places = _places(place.weights(place.only(".pt")))
    return list(places) if len(places) > 1 else []


def read_config(place: Place) -> DictionaryConfig:
    weights = place.weights(place.only(".pt"))
    places = _places(weights)
    hook_in = place.part or next(iter(places))
    cfg = _config(place)
    model_name = str(cfg.get("tlens_model_name") or "")
    normalize, said = centring.normalization("none", model_name, hook_in, place.overrides.get("centred"))
    if not model_name and place.overrides.get("centred") is None:
        said = [
            f"There is no {CONFIG} to name the model: it is taken as not centred. If it was, state it in facet.json."
        ]
    elif place.overrides.get("centred"):
        normalize, said = "centred", [centring.CENTRED]
    return place.describe(
        weights,
        format="e2e_sae",
        by_file=True,
        architecture="relu",
        tensors={canonical: f"{places[hook_in]}.{name}" for canonical, name in TENSORS.items()},
        hook_in=hook_in,
        normalize=normalize,
        options={"unit_decoder": True},
        model_name=model_name,
        metadata={"tlens_model_name": model_name},
        evidence=(f"{weights.path.name} names its tensors by {hook_in}, as e2e_sae does.", *said),
    )


def _places(weights: Weights) -> dict[str, str]:
    """Return the hook points of the dictionaries in a file, with the names that stand before their tensors."""
    matches = [match for name in weights.spans if (match := _KEY.fullmatch(name))]
    return {match["place"].replace("-", "."): match["place"] for match in matches}


def _config(place: Place) -> dict[str, Any]:
    import yaml

    if not place.has(CONFIG):
        return {}
    path = place.inside(CONFIG)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise damaged(path, "it is not YAML") from error
    return content if isinstance(content, dict) else {}
