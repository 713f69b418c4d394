"""What the engine keeps of the texts it read lately: the next question about one of them runs no model.

A page asks for the features of a prompt and then for single ones of them, or ranks the same prompt in another way. Kept
are the activations at hook points, and of dictionaries whose features compete the score that had to be reached at each
token, with which chosen features cost what they cost where nothing competes.

Shape suffixes: T tokens, D width of a hook point, M chosen features.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor

from inference.activations import capture
from inference.dictionaries.dictionary import Dictionary
from inference.dictionaries.sparse import SparseActivations
from inference.language_models import LanguageModel
from inference.memory import ByteLRU
from inference.values import Tokens


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Kept:
    tensor: Tensor

    @property
    def n_bytes(self) -> int:
        return self.tensor.nbytes


class Readings:
    """Activations by model, hook point and token ids, the last used of them up to a number of bytes."""

    def __init__(self, capacity_bytes: int = 0) -> None:
        self.kept = ByteLRU(capacity_bytes)

    def inputs(self, model: LanguageModel, tokens: Tokens, hook_names: Iterable[str]) -> dict[str, Tensor]:
        """Return x_td at each hook point, from one pass up to the deepest of those that are not kept."""
        keys = {name: (*_text(model, tokens), name) for name in hook_names}
        found = {name: kept for name, key in keys.items() if (kept := self.kept.find(key)) is not None}
        if missing := [name for name in keys if name not in found]:
            for name, x_btd in capture(model, model.ids_bt(tokens), missing).items():
                found[name] = self.kept.get(keys[name], lambda x_btd=x_btd: _Kept(tensor=_alone(x_btd[0])))
        return {name: kept.tensor for name, kept in found.items()}

    def keep(
        self, model: LanguageModel, tokens: Tokens, dictionary: Dictionary, activations: SparseActivations
    ) -> Tensor | None:
        """Keep, and return, what chosen features must reach at each token; None where they do not compete so."""
        kth_t = dictionary.kth_scores(activations)
        if kth_t is not None:
            self.kept.get(_scores(model, tokens, dictionary), lambda: _Kept(tensor=kth_t))
        return kth_t

    def features(self, model: LanguageModel, tokens: Tokens, dictionary: Dictionary, indices: Sequence[int]) -> Tensor:
        """Return a_tm, the activations of chosen features."""
        x_td = self.inputs(model, tokens, [dictionary.hook_in])[dictionary.hook_in]
        lengths = [len(tokens)]
        if not dictionary.has_kth_scores:
            return dictionary.encode_features(x_td, indices, lengths)
        kept = self.kept.find(_scores(model, tokens, dictionary))
        kth_t = self.keep(model, tokens, dictionary, dictionary.encode(x_td, lengths)) if kept is None else kept.tensor
        return dictionary.encode_features(x_td, indices, lengths, kth_t=kth_t)


def _text(model: LanguageModel, tokens: Tokens) -> tuple:
    companions = tuple((name, other.path, other.revision) for name, other in model.companions.items())
    return model.name, model.path, model.revision, companions, tokens.ids


def _scores(model: LanguageModel, tokens: Tokens, dictionary: Dictionary) -> tuple:
    return (*_text(model, tokens), dictionary.config.path, dictionary.config.sha256)


def _alone(x_td: Tensor) -> Tensor:
    """Return activations that hold no larger tensor's memory."""
    return x_td if x_td.untyped_storage().nbytes() == x_td.nbytes else x_td.clone()
