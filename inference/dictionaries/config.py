"""What a dictionary says about itself before its weights are read, and whether it fits a model; without torch."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

from inference.errors import InvalidInput, NotFound
from inference.hook_points import FAMILIES, owner_of, parts, resolve

# Architectures that keep the sign of what they select.
SIGNED = frozenset({"abstopk", "signed_topk", "fixed_pursuit", "linear", "neurons"})
# Architectures that see whole sequences: what a token activates depends on the tokens before it.
SEQUENTIAL = frozenset({"temporal", "lorsa"})
# Architectures whose features write something else for every input, so that none has a direction of its own.
WITHOUT_DIRECTIONS = frozenset({"molt"})
# Architectures whose features are coordinates of their input: as projections none is like another.
COORDINATES = frozenset({"neurons"})
# Architectures that only read.
WITHOUT_DECODER = frozenset({"router"})


class UnknownDictionary(NotFound):
    """A path that holds no dictionary in a format that Facet reads."""

    code = "unknown-dictionary"


class UnsupportedDictionary(InvalidInput):
    """A dictionary of a known format with an architecture or a setting that Facet does not compute."""

    code = "unsupported-dictionary"


class SeveralDictionaries(InvalidInput):
    """A folder that holds more than one dictionary; `suggestions` are their paths."""

    code = "several-dictionaries"


class DamagedDictionary(InvalidInput):
    """Weights that are truncated, of the wrong shape, or not numbers; `details` name the file or the tensor."""

    code = "damaged-dictionary"


class DictionaryDoesNotFit(InvalidInput):
    """A dictionary for another width, layer or hook point than the model has."""

    code = "dictionary-does-not-fit"


@dataclass(frozen=True, slots=True, kw_only=True)
class DictionaryConfig:
    """A dictionary's facts, from whatever layout they come.

    `tensors` says under which name the file holds each canonical tensor (`formats.tensors`), and the fields from
    `normalize` to `output_scale` how these are put together (`folding`). A transcoder has a `hook_out` of its own.
    A hook point may be several, joined by `+`; `d_in` and `d_out` are then their widths together, and scales may be
    one number for each. `path` ends in `#part` where a file or folder holds several dictionaries that are told apart
    inside it. A `is_summand` dictionary writes one of the terms that add up to what the model computes, as a layer of
    a cross-layer transcoder does; its siblings are the other parts of the path.
    `group_sizes` are the sizes of a Matryoshka dictionary's nested groups, the most general first. `metadata` holds
    what the layout says beyond these fields, as JSON-ready values, and `evidence` why the dictionary is taken for what
    it is and what was assumed about it, one sentence each.
    """

    path: str
    weights: str
    format: str
    architecture: str
    tensors: Mapping[str, str]
    hook_in: str
    hook_out: str
    d_in: int
    d_out: int
    n_features: int
    k: int | None = None
    normalize: str = "none"
    subtract_output_bias: bool = False
    scale_by_decoder_norm: bool = False
    input_scale: float | tuple[float, ...] = 1.0
    output_scale: float | tuple[float, ...] = 1.0
    is_summand: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    group_sizes: tuple[int, ...] = ()
    model_name: str = ""
    prepend_bos: bool = True
    context_size: int | None = None
    dtype: str = "float32"
    sha256: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    evidence: tuple[str, ...] = ()

    @property
    def weights_path(self) -> Path:
        return Path(self.weights)

    @property
    def owners(self) -> frozenset[str]:
        """The models that its hook points name; none where it is of whichever model it is added to."""
        return frozenset(filter(None, map(owner_of, (*parts(self.hook_in), *parts(self.hook_out)))))

    @property
    def is_transcoder(self) -> bool:
        return self.hook_out != self.hook_in

    @property
    def is_sequential(self) -> bool:
        """Whether activations depend on earlier tokens, so that whole sequences must be encoded, BOS included."""
        return self.architecture in SEQUENTIAL

    @property
    def decodes(self) -> bool:
        """Whether there is a decoder: without one nothing can be reconstructed or spliced."""
        return self.architecture not in WITHOUT_DECODER

    @property
    def reconstructs(self) -> bool:
        """Whether what it decodes is meant to be what the model has at `hook_out`, and not a term of that."""
        return self.decodes and not self.is_summand

    @property
    def has_directions(self) -> bool:
        """Whether a feature writes one direction, by which it can be steered and compared."""
        return has_directions(self.architecture)

    @property
    def has_projections(self) -> bool:
        """Whether a feature projects its input on a direction by which it can be compared."""
        return self.architecture not in COORDINATES

    @property
    def is_signed(self) -> bool:
        """Whether activations can be negative, so that a feature has two directions."""
        return self.architecture in SIGNED or not self.options.get("relu", True)

    def group_of(self, feature: int) -> int | None:
        """Return which nested group of a Matryoshka dictionary first holds a feature: 0 is the most general."""
        ends = list(accumulate(self.group_sizes))
        return bisect(ends, feature) if ends else None


def has_directions(architecture: str) -> bool:
    """Return whether each feature of an architecture writes one direction."""
    return architecture not in WITHOUT_DIRECTIONS | WITHOUT_DECODER


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """What of a model a dictionary must fit; a width that is None is not compared.

    `d_heads` is the width of all heads' outputs together.
    """

    name: str
    family: str
    n_layers: int
    d_model: int
    d_heads: int | None = None
    d_mlp: int | None = None
    d_vocab: int | None = None


def check_fit(config: DictionaryConfig, model: ModelShape, companions: Mapping[str, ModelShape] | None = None) -> None:
    """Raise DictionaryDoesNotFit or UnknownHookPoint unless the model has the dictionary's hook points and widths.

    A dictionary of several models fits one of them, if the others are among its `companions` (by name), read the same
    token ids, and have what it reads there.
    """
    shapes = {**(companions or {}), model.name: model, "": model}
    _check_owners(config, model, shapes)
    ends = [(config.hook_in, config.d_in), *([(config.hook_out, config.d_out)] if config.decodes else [])]
    for hook_name, d_dictionary in [(name, d // len(parts(both))) for both, d in ends for name in parts(both)]:
        owner = shapes[owner_of(hook_name)]
        widths = {"model": owner.d_model, "heads": owner.d_heads, "mlp": owner.d_mlp}
        point, site = resolve(FAMILIES[owner.family], hook_name, n_layers=owner.n_layers)
        d_here = None if point.head is not None else widths[site.width]
        if d_here is not None and d_here != d_dictionary:
            raise DictionaryDoesNotFit(
                f"The dictionary is {d_dictionary} wide at {hook_name}, where {owner.name} is {d_here} wide.",
                f"Add it to the model that it was trained on{config.model_name and f', {config.model_name}'}.",
                hook_point=hook_name,
                dictionary_width=d_dictionary,
                model_width=d_here,
            )


def _check_owners(config: DictionaryConfig, model: ModelShape, shapes: Mapping[str, ModelShape]) -> None:
    """Raise DictionaryDoesNotFit unless the models that hook points name are there and read the model's token ids."""
    if not config.owners:
        return
    names = " and ".join(sorted(config.owners))
    restate = "write its hook points with the names that the models have here as hook_in to facet.json beside it"
    ends = (config.hook_in, config.hook_out)
    if not all(any(owner_of(name) in ("", model.name) for name in parts(end)) for end in ends):
        raise DictionaryDoesNotFit(
            f"The dictionary compares {names}: it does not read and write {model.name}.",
            f"Add it to one of them, or {restate}.",
            models=sorted(config.owners),
        )
    for name in sorted(config.owners):
        if name not in shapes:
            raise DictionaryDoesNotFit(
                f"The dictionary compares {names}, and there is no model {name} that can be run.",
                f"Add that model under this name first, or {restate}.",
                models=sorted(config.owners),
                missing=name,
            )
        if None not in (sizes := {model.d_vocab, shapes[name].d_vocab}) and len(sizes) > 1:
            raise DictionaryDoesNotFit(
                f"{name} has {shapes[name].d_vocab:,} tokens and {model.name} {model.d_vocab:,}: ids mean other texts.",
                "Add the two models that the dictionary was trained on, which share a tokenizer.",
                models=sorted(config.owners),
            )
