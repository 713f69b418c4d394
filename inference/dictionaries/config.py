"""What a dictionary says about itself before its weights are read, and whether it fits a model; without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inference.errors import InvalidInput, NotFound
from inference.hook_points import FAMILIES, resolve


class UnknownDictionary(NotFound):
    """A path that holds no dictionary in a format that Facet reads."""

    code = "unknown-dictionary"


class UnsupportedDictionary(InvalidInput):
    """A dictionary of a known format with an architecture or a setting that Facet does not compute."""

    code = "unsupported-dictionary"


class DamagedDictionary(InvalidInput):
    """Weights that are truncated, of the wrong shape, or not numbers; `details` name the file or the tensor."""

    code = "damaged-dictionary"


class DictionaryDoesNotFit(InvalidInput):
    """A dictionary for another width, layer or hook point than the model has."""

    code = "dictionary-does-not-fit"


@dataclass(frozen=True, slots=True, kw_only=True)
class DictionaryConfig:
    """A dictionary's facts. `architecture` is relu, topk or jumprelu; a transcoder has a `hook_out` of its own.

    `normalize` is what is done to each input vector: none, layer_norm or constant_norm_rescale. `metadata` holds what
    the format says beyond these fields, as JSON-ready values.
    """

    path: str
    weights: str
    format: str
    architecture: str
    hook_in: str
    hook_out: str
    d_in: int
    d_out: int
    n_features: int
    k: int | None
    normalize: str
    subtract_output_bias: bool
    scale_by_decoder_norm: bool
    model_name: str
    prepend_bos: bool
    context_size: int | None
    dtype: str
    sha256: str
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def weights_path(self) -> Path:
        return Path(self.weights)

    @property
    def is_transcoder(self) -> bool:
        return self.hook_out != self.hook_in


def check_fit(
    config: DictionaryConfig,
    *,
    model_name: str,
    family: str,
    n_layers: int,
    d_model: int,
    d_heads: int | None = None,
    d_mlp: int | None = None,
) -> None:
    """Raise DictionaryDoesNotFit or UnknownHookPoint unless the model has the dictionary's hook points and widths.

    `d_heads` is the width of all heads' outputs together; a width that is None is not compared.
    """
    widths = {"model": d_model, "heads": d_heads, "mlp": d_mlp}
    for hook_name, d_dictionary in ((config.hook_in, config.d_in), (config.hook_out, config.d_out)):
        point, site = resolve(FAMILIES[family], hook_name, n_layers=n_layers)
        d_here = None if point.head is not None else widths[site.width]
        if d_here is not None and d_here != d_dictionary:
            raise DictionaryDoesNotFit(
                f"The dictionary is {d_dictionary} wide at {hook_name}, where {model_name} is {d_here} wide.",
                f"Add it to the model that it was trained on{config.model_name and f', {config.model_name}'}.",
                hook_point=hook_name,
                dictionary_width=d_dictionary,
                model_width=d_here,
            )
