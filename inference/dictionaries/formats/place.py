"""A place that may hold a dictionary: a folder, or a file in it, looked at without torch.

`facet.json` in the folder states what a layout leaves out, or what its author got wrong: `hook_in`, `hook_out`, or
`hook_points`, where one dictionary was trained on several that it reads one at a time, as a group of layers;
`model_name`, `k`, `context_size`, `prepend_bos`, `input_scale`; `threshold`, or `batch_rule` to let features compete
across a batch as in training; `dict_class` where two classes save the same; `centred`, whether TransformerLens had
centred the weights of the model that it was trained on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf, isclose
from pathlib import Path
from typing import Any

from inference.dictionaries.config import (
    WITHOUT_DECODER,
    WITHOUT_DIRECTIONS,
    DamagedDictionary,
    DictionaryConfig,
    UnsupportedDictionary,
)
from inference.dictionaries.formats.tensors import ENCODERS, NEEDED, check_shapes, files_of, pieces, shape_of
from inference.dictionaries.storage import SUFFIXES, Weights, damaged, open_weights
from inference.digests import files_sha256
from inference.errors import InvalidInput

OVERRIDES = "facet.json"
COMPETING = ("topk", "abstopk", "signed_topk", "groupmax", "codebook", "kron", "router")
PURSUITS = ("matching_pursuit", "fixed_pursuit", "nonnegative")
BATCH_RULES = ("batchtopk", "matryoshka", "mutual_choice", "feature_choice")
_OVERRIDE_TYPES = {
    "hook_in": str,
    "hook_out": str,
    "hook_points": list,
    "model_name": str,
    "k": int,
    "context_size": int,
    "prepend_bos": bool,
    "input_scale": float,
    "threshold": float,
    "batch_rule": bool,
    "dict_class": str,
    "centred": bool,
}
# What facts are, one by one where there are several.
_KINDS: dict[str, type | tuple[type, ...]] = {
    "hook_in": str,
    "hook_out": str,
    "k": int,
    "context_size": int,
    "group_sizes": int,
    "input_scale": (int, float),
    "output_scale": (int, float),
    "normalize": str,
    "subtract_output_bias": bool,
    "scale_by_decoder_norm": bool,
}
# Statements that a layout's module reads itself.
_FOR_LAYOUTS = {"dict_class", "centred"}


class OutsideFolder(InvalidInput):
    """A link that leads out of the folder that was named."""

    code = "outside-folder"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a layout fits a place, and why."""

    fits: bool
    why: str


def yes(why: str) -> Verdict:
    return Verdict(True, why)


def no(why: str) -> Verdict:
    return Verdict(False, why)


@dataclass(frozen=True)
class Place:
    """What somebody named: `path` is a folder or a file, `part` what follows a `#` behind it.

    Without `digests` configs are described without reading all of the weights.
    """

    path: Path
    part: str = ""
    digests: bool = True

    @classmethod
    def named(cls, name: str | Path, *, digests: bool = True) -> Place:
        """Return the place of a path that may end in `#part`."""
        path, _, part = str(name).rpartition("#")
        is_part = bool(path) and not Path(name).exists()
        return cls(Path(path), part, digests) if is_part else cls(Path(name), digests=digests)

    @cached_property
    def folder(self) -> Path:
        return self.path.parent if self.path.is_file() else self.path

    @cached_property
    def names(self) -> list[str]:
        """The files in the folder."""
        return sorted(entry.name for entry in self.folder.iterdir() if entry.is_file())

    @cached_property
    def overrides(self) -> dict[str, Any]:
        """What facet.json states; raise UnsupportedDictionary for what it may not."""
        told = self.json(OVERRIDES) if self.has(OVERRIDES) else {}
        for name, value in told.items():
            kind = _OVERRIDE_TYPES.get(name)
            values = value if name == "input_scale" and isinstance(value, list) and value else [value]
            allowed = (int, float) if kind is float else kind
            if kind is None or not all(isinstance(one, allowed) for one in values):
                raise UnsupportedDictionary(
                    f"{self.folder / OVERRIDES} has {name} {value!r}, which means nothing here.",
                    f"It may state {', '.join(f'{key} ({kind.__name__})' for key, kind in _OVERRIDE_TYPES.items())}.",
                )
        return told

    def has(self, name: str) -> bool:
        return (self.folder / name).is_file()

    def files(self, *names: str) -> Verdict:
        """Say whether all of these files are here."""
        missing = [name for name in names if not self.has(name)]
        return no(f"no {' and no '.join(missing)}") if missing else yes(" and ".join(names))

    def inside(self, name: str) -> Path:
        """Return the path of a file; raise OutsideFolder for a link that leads elsewhere than to a hub's own store."""
        path = self.folder / name
        # The hub's cache links every file of `snapshots/<commit>` into the `blobs` beside it.
        snapshot = next((parent for parent in self.folder.parents if parent.name == "snapshots"), None)
        allowed = (self.folder.resolve(), *((snapshot.with_name("blobs").resolve(),) if snapshot else ()))
        if path.is_symlink() and not any(path.resolve().is_relative_to(folder) for folder in allowed):
            raise OutsideFolder(
                f"{path} is a link that leads out of its folder.", "Put the file itself there.", file=str(path)
            )
        return path

    def json(self, name: str) -> dict[str, Any]:
        """Return a JSON object; raise DamagedDictionary if the file does not hold one."""
        path = self.inside(name)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise damaged(path, "it is not JSON") from error
        if not isinstance(content, dict):
            raise damaged(path, "it is not a JSON object")
        return content

    def weights(self, name: str) -> Weights:
        return open_weights(self.inside(name))

    def only(self, suffix: str) -> str | None:
        """Return the file that was named, if it has the suffix, or else the one file of the folder that has it."""
        if self.path.is_file():
            return self.path.name if self.path.suffix == suffix else None
        matching = [name for name in self.names if name.endswith(suffix)]
        return matching[0] if len(matching) == 1 else None

    @cached_property
    def content(self) -> Weights | None:
        """The one file of weights here, opened; None where there is none, or more than one."""
        named = [name for suffix in SUFFIXES if (name := self.only(suffix))]
        return self.weights(named[0]) if len(named) == 1 else None

    def search(self, pattern: str) -> re.Match[str] | None:
        """Return where a pattern matches the path, which often says what the files do not."""
        return re.search(pattern, str(self.path.absolute()))

    def describe(
        self,
        weights: Weights,
        *,
        format: str,
        architecture: str,
        tensors: Mapping[str, str],
        hook_in: str | None,
        hook_out: str | None = None,
        by_file: bool = False,
        **facts: Any,
    ) -> DictionaryConfig:
        """Return a config with facet.json's statements, and the widths of the stored tensors where `facts` has none.

        A dictionary that is a file among others is known `by_file`, others by their folder.

        Raises DamagedDictionary where shapes disagree, UnsupportedDictionary where nothing says where it reads.
        """
        told = {name: value for name, value in self.overrides.items() if name not in _FOR_LAYOUTS}
        if self.part in told.pop("hook_points", ()):
            told["hook_in"] = self.part
        transcodes = hook_out not in (None, hook_in)
        hook_in = told.pop("hook_in", hook_in)
        hook_out = told.pop("hook_out", hook_out if transcodes else hook_in)
        if not hook_in:
            raise UnsupportedDictionary(
                f"Nothing in {self.folder} says where the dictionary reads.",
                f'Write {{"hook_in": "blocks.N.hook_resid_post"}}, with its layer and site, to {OVERRIDES} there.',
            )
        facts["options"] = self._options(weights, architecture, facts.get("options", {}), told)
        archetypal = "archetypes_fp" in tensors
        needed = ENCODERS.get(architecture, ("w_enc_fd",))
        aimless = architecture in WITHOUT_DIRECTIONS | WITHOUT_DECODER
        directions = () if aimless else ("points_po" if archetypal else "w_dec_fo",)
        for canonical in (*directions, *needed, *NEEDED.get(architecture, ())):
            if canonical not in tensors and (canonical != "threshold_f" or not _has_threshold(tensors, facts)):
                raise damaged(weights.path, f"it has nothing that could be {canonical}", tensor=canonical)
        for path in files_of(weights, tensors):
            self.inside(path.name)
        reads = tensors[needed[0]] if needed else tensors["w_dec_fo"]
        writes = "{archetypes_fp} @ {points_po}".format_map(tensors) if archetypal else tensors.get("w_dec_fo", reads)
        n_features, d_out = _sizes(weights, writes)
        d_in = _sizes(weights, reads)[1]
        first = pieces(writes)[0]
        dtype = first.weights(weights).spans[first.name].dtype
        if self.overrides:
            facts["evidence"] = (*facts.get("evidence", ()), f"{OVERRIDES} states {', '.join(sorted(self.overrides))}.")
        if "input_scale" in told:
            stated = told["input_scale"]
            told["input_scale"] = told["output_scale"] = tuple(stated) if isinstance(stated, list) else stated
        _check_kinds(weights, {"hook_in": hook_in, "hook_out": hook_out} | facts | told)
        config = DictionaryConfig(
            path=str(weights.path if by_file else self.folder) + (self.part and f"#{self.part}"),
            weights=str(weights.path),
            format=format,
            architecture=architecture,
            tensors=dict(tensors),
            hook_in=hook_in,
            hook_out=hook_out,
            **({"d_in": d_in, "d_out": d_out, "n_features": n_features, "dtype": dtype} | facts | told),
        )
        check_shapes(config, weights)
        _check_counts(config, weights)
        return replace(config, sha256=files_sha256(files_of(weights, tensors)) if self.digests else "")

    def _options(
        self, weights: Weights, architecture: str, options: Mapping[str, Any], told: dict[str, Any]
    ) -> dict[str, Any]:
        """Return a layout's options with facet.json's; raise UnsupportedDictionary for a rule that it does not have."""
        stated = {name: told.pop(name) for name in ("threshold", "batch_rule") if name in told}
        if stated and architecture not in (*BATCH_RULES, "jumprelu"):
            raise UnsupportedDictionary(
                f"{self.folder / OVERRIDES} states {', '.join(stated)} for a dictionary that is {architecture}.",
                f"Only {', '.join(BATCH_RULES)} and jumprelu dictionaries have thresholds.",
            )
        return {**options, **stated}


def _check_kinds(weights: Weights, facts: Mapping[str, Any]) -> None:
    """Raise DamagedDictionary for a fact of a kind that it cannot be of, as anybody's config may have it."""
    for name, kind in _KINDS.items():
        value = facts.get(name)
        values = value if isinstance(value, tuple) else () if value is None else (value,)
        if not all(isinstance(one, kind) and (kind is bool or not isinstance(one, bool)) for one in values):
            raise damaged(weights.path, f"its config says {name} {value!r}")


def _has_threshold(tensors: Mapping[str, str], facts: Mapping[str, Any]) -> bool:
    return "log_threshold_f" in tensors or bool({"threshold", "batch_rule"} & facts["options"].keys())


def _sizes(weights: Weights, name: str) -> tuple[int, int]:
    shape = shape_of(weights, name)
    if len(shape) != 2:
        raise damaged(weights.path, f"{pieces(name)[0].name} is no matrix: its shape is {shape}", tensor=name)
    return shape


def _numbers(scale: float | tuple[float, ...]) -> tuple[float, ...]:
    return scale if isinstance(scale, tuple) else (scale,)


def _keeps_transpose(config: DictionaryConfig) -> bool:
    """Return whether folding leaves the encoder the decoder's transpose, and lengths as they are where these decide."""
    if config.architecture == "matching_pursuit":
        return config.input_scale == 1
    return all(
        isclose(a * b, 1) for a, b in zip(_numbers(config.input_scale), _numbers(config.output_scale), strict=True)
    )


def _pairs(config: DictionaryConfig, weights: Weights) -> bool:
    """Return whether the base features of KronSAE's heads make as many pairs as there are features."""
    heads = config.options["heads"]
    n_p, n_q = (shape_of(weights, config.tensors[name])[0] for name in ("w_p_pd", "w_q_qd"))
    return n_p % heads == n_q % heads == 0 and n_p * n_q == heads * config.n_features


def _check_counts(config: DictionaryConfig, weights: Weights) -> None:
    problem = None
    if min(config.d_in, config.d_out, config.n_features) < 1:
        problem = f"its widths are {config.d_in}, {config.n_features} and {config.d_out}"
    elif not all(0 < scale < inf for scale in (*_numbers(config.input_scale), *_numbers(config.output_scale))):
        problem = f"the factors of its input and output are {config.input_scale} and {config.output_scale}"
    elif config.architecture in COMPETING and not 1 <= (config.k or 0) <= config.n_features:
        problem = f"k is {config.k} with {config.n_features} features"
    elif config.architecture == "groupmax" and config.n_features % config.k:
        problem = f"{config.n_features} features do not make {config.k} groups of equal size"
    elif config.architecture in PURSUITS and not _keeps_transpose(config):
        problem = f"{config.architecture} takes its decoder for its encoder, and scales would set them apart"
    elif (config.architecture == "fixed_pursuit" or config.options.get("batch_rule")) and (config.k or 0) < 1:
        problem = f"k is {config.k}"
    elif config.architecture == "kron" and not _pairs(config, weights):
        problem = f"{config.options['heads']} heads of base features do not make {config.n_features} pairs"
    elif config.group_sizes and sum(config.group_sizes) != config.n_features:
        problem = f"its groups hold {sum(config.group_sizes)} of {config.n_features} features"
    if problem:
        raise DamagedDictionary(
            f"{weights.path} cannot be used: {problem}.", f"Check its config, or what {OVERRIDES} states."
        )
