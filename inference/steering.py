"""Steering: changing activations along a feature's decoder direction while the model runs.

An operation says how one edit changes the activations at its hook point; edits of one run at one hook point are each
computed from the unsteered activations there, and their changes are summed. The changes are added to the activations
themselves, so whatever the dictionary does not explain (its error term) stays as it was. BOS is never changed. Of a
feature that writes in several models, only its share at the hook points of the model that generates is added.

Shape suffixes: B rows, T tokens, D width of the hook point.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from inference.activations import at_each_point
from inference.dictionaries.dictionary import Dictionary
from inference.errors import InvalidInput
from inference.values import Edit

__all__ = ["OPERATIONS", "Edit", "SteeringOperation", "Target", "UnknownOperation", "hooks_for"]

Variant = Sequence[Edit]


class UnknownOperation(InvalidInput):
    """A steering operation or a dictionary that the request names and nothing provides."""

    code = "unknown-operation"


class InvalidStrength(InvalidInput):
    """A strength that is not a finite number."""

    code = "invalid-strength"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Target:
    """What an operation may know of its feature at one hook point: its maximum, its decoder row, its unit direction.

    Of a feature that writes at several hook points, row and direction are its shares at this one; the direction has
    length one over all of them.
    """

    dictionary: Dictionary
    feature: int
    maximum: float
    row_d: Tensor
    unit_d: Tensor


class SteeringOperation(Protocol):
    """Return the change to add to h_td, the unsteered activations of one row, broadcastable to its shape.

    `strength` is in multiples of the target's maximum; strength 0 of an additive operation changes nothing. Positions
    that must stay as they are have been cut off before.
    """

    def __call__(self, h_td: Tensor, target: Target, strength: float) -> Tensor: ...


def add(h_td: Tensor, target: Target, strength: float) -> Tensor:
    """Move every token by strength x maximum along the unit decoder direction (AxBench, https://arxiv.org/abs/2501.17148)."""
    return strength * target.maximum * target.unit_d


OPERATIONS: dict[str, SteeringOperation] = {"add": add}


def hooks_for(
    dictionaries: Mapping[str, Dictionary], variants: Sequence[Variant], *, n_untouched: int
) -> dict[str, Callable[[Tensor], Tensor]]:
    """Return for each hook point the function that steers row b of a batch by variants[b].

    The first `n_untouched` positions of the batch stay as they are. Give the result to `activations.spliced`. Raises
    UnknownOperation, InvalidStrength, UnknownFeature.
    """
    planned: dict[str, list[tuple[int, SteeringOperation, Target, float]]] = {}
    for row, edits in enumerate(variants):
        for edit in edits:
            operation, target = _prepare(edit, dictionaries)
            rows = at_each_point(target.dictionary.hook_out, target.row_d)
            units = at_each_point(target.dictionary.hook_out, target.unit_d)
            for name in rows:
                share = replace(target, row_d=rows[name], unit_d=units[name])
                planned.setdefault(name, []).append((row, operation, share, edit.strength))
    return {hook_name: _hook(steps, n_untouched) for hook_name, steps in planned.items()}


def _prepare(edit: Edit, dictionaries: Mapping[str, Dictionary]) -> tuple[SteeringOperation, Target]:
    if edit.op not in OPERATIONS or edit.dictionary_key not in dictionaries:
        known = OPERATIONS if edit.op not in OPERATIONS else dictionaries
        name = edit.op if edit.op not in OPERATIONS else edit.dictionary_key
        raise UnknownOperation(
            f"There is no {name!r} to steer with.", f"There are: {', '.join(sorted(known))}.", name=name
        )
    if not math.isfinite(edit.strength) or not math.isfinite(edit.maximum):
        raise InvalidStrength(f"The strength {edit.strength} is not a number.", "Give a finite strength.")
    dictionary = dictionaries[edit.dictionary_key]
    row_d = dictionary.decoder_directions([edit.feature])[0]
    unit_d = row_d / row_d.norm().clamp(min=torch.finfo(row_d.dtype).tiny)
    target = Target(dictionary=dictionary, feature=edit.feature, maximum=edit.maximum, row_d=row_d, unit_d=unit_d)
    return OPERATIONS[edit.op], target


def _hook(steps: list[tuple[int, SteeringOperation, Target, float]], n_untouched: int) -> Callable[[Tensor], Tensor]:
    def steer(h_btd: Tensor) -> Tensor:
        steered_btd = h_btd.clone()
        for row, operation, target, strength in steps:
            h_td = h_btd[row, n_untouched:]
            steered_btd[row, n_untouched:] += operation(h_td, target, strength).to(h_td.dtype)
        return steered_btd

    return steer
