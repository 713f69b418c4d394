"""ITDA (https://arxiv.org/abs/2505.17769): atoms.pt, atom_indices.pt and metadata.yaml; atoms are real activations.

    r = x;  k times: j = argmax |r atoms.T|, v = r atoms[j], a[j] += v, r -= v atoms[j];  y = a atoms

Atoms have length one, values keep their sign, and there are no biases. `atom_indices` says at which position of which
sequence of the training text each atom was seen. https://github.com/pleask/itda
"""

from __future__ import annotations

from typing import Any

from inference.dictionaries.config import DictionaryConfig
from inference.dictionaries.formats.names import hook_point
from inference.dictionaries.formats.place import Place, Verdict
from inference.dictionaries.storage import damaged

LAYOUT = "atoms.pt + metadata.yaml"
CONFIG, WEIGHTS, ORIGINS = "metadata.yaml", "atoms.pt", "atom_indices.pt"
ARCHITECTURES = {"itda": "fixed_pursuit"}
TENSORS = {"w_enc_fd": "atoms", "w_dec_fo": "atoms"}
# The package's own, for metadata that do not say.
DEFAULT_K = 40


def detect(place: Place) -> Verdict:
    return place.files(CONFIG, WEIGHTS)


def read_config(place: Place) -> DictionaryConfig:
    cfg = _metadata(place)
    weights = place.weights(WEIGHTS)
    n_atoms = weights.shape("atoms")[0]
    if place.has(ORIGINS) and (shape := place.weights(ORIGINS).shape("atom_indices")) != (n_atoms, 2):
        raise damaged(place.folder / ORIGINS, f"its shape is {shape} for {n_atoms} atoms", tensor="atom_indices")
    model_name = str(cfg.get("lm_name") or "")
    hook_in = f"blocks.{cfg['layer']}.hook_resid_post" if "layer" in cfg else None
    if cfg.get("submodule_name"):
        hook_in = hook_point(str(cfg["submodule_name"]), model_name=model_name) or hook_in
    return place.describe(
        weights,
        format="itda",
        architecture="fixed_pursuit",
        tensors=TENSORS,
        hook_in=hook_in,
        k=cfg.get("k", DEFAULT_K),
        normalize="centred" if place.overrides.get("centred") else "none",
        options={"by_magnitude": True},
        model_name=model_name,
        context_size=cfg.get("seq_len"),
        metadata={key: value for key, value in cfg.items() if isinstance(value, str | int | float | bool)},
        evidence=(
            f"{WEIGHTS} and {CONFIG} as ITDA writes them: {n_atoms:,} atoms"
            f"{', with the position that each was seen at' if place.has(ORIGINS) else ''}.",
            *([] if "k" in cfg else [f"{CONFIG} does not say k; taken as {DEFAULT_K}, as in the package."]),
        ),
    )


def _metadata(place: Place) -> dict[str, Any]:
    import yaml

    path = place.inside(CONFIG)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise damaged(path, "it is not YAML") from error
    if not isinstance(content, dict):
        raise damaged(path, "it is not a mapping")
    return content
