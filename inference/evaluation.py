"""How faithful a dictionary is to its model: sparsity, error, and what a splice of its reconstruction costs.

Over text tokens only, whose number is given: BOS and padding are left out of every sum, and splices leave them as
they are.

    L0      features that are not zero at a token
    MSE     squared error of a token's reconstruction, summed over the width
    EV      1 - squared error / squared distance from the mean of the whole sample
    CE      nats per predicted token: clean, with the reconstruction spliced in at `hook_out`, with zeros there
    CE recovered = (CE ablated - CE spliced) / (CE ablated - CE clean)
    KL score     = (KL ablated - KL spliced) / KL ablated, of the clean model's predictions from the changed model's

A splice carries no error term: what the dictionary misses is missing. Ablation is with zeros, not with the mean.
Sums of parts of a text merge into those of the whole.

Dictionaries that are terms of a sum, as the layers of a cross-layer transcoder are, are measured together: L0 counts
the features of all of them, the error is that of their sum at all the hook points where they write, and the splice puts
the sums of all hook points in at once. Every term sees the clean model's activations.

Of a dictionary that compares several models, L0, error and EV are over the hook points of all of them, and the splice
and the zeros are at those of the model itself.

Shape suffixes: B contexts, T positions, N text tokens, P predictions, D width of `hook_in`, O of `hook_out`,
L numbers of features from 0 on, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from inference.activations import at_each_point, capture, side_by_side, spliced, visited
from inference.dashboards.encoding import ActivationsNotFinite
from inference.dashboards.results import ContextTable
from inference.dictionaries import parts_of
from inference.dictionaries.dictionary import Dictionary
from inference.dictionaries.sparse import SparseActivations
from inference.errors import InvalidInput
from inference.hook_points import parts
from inference.language_models import LanguageModel
from inference.values import Fidelity

BATCH_CONTEXTS = 16
# Log-probabilities of a batch, in numbers; a few such arrays are held at a time.
_BATCH_LOGITS = 1 << 24


class IncompleteSet(InvalidInput):
    """Some of the dictionaries whose outputs add up to a reconstruction, without the others."""

    code = "incomplete-set"


@dataclass(slots=True)
class Reconstruction:
    """Sums over tokens of how well they are reconstructed, and from how many features."""

    tokens: int = 0
    error: float = 0.0
    square: float = 0.0
    total_o: Tensor = field(default_factory=lambda: torch.zeros(1, dtype=torch.float64))
    tokens_l: Tensor = field(default_factory=lambda: torch.zeros(1, dtype=torch.int64))

    def add(self, features_n: Tensor, y_no: Tensor, guess_no: Tensor) -> None:
        """Count a batch of tokens, of which each has so many features that are not zero."""
        self.merge(
            Reconstruction(
                len(features_n),
                (y_no - guess_no).double().square().sum().item(),
                y_no.double().square().sum().item(),
                y_no.double().sum(0).cpu(),
                features_n.bincount(minlength=1).cpu(),
            )
        )

    def merge(self, other: Reconstruction) -> None:
        """Add the sums of other tokens."""
        self.tokens += other.tokens
        self.error += other.error
        self.square += other.square
        self.total_o = self.total_o + other.total_o
        longest = max(len(self.tokens_l), len(other.tokens_l))
        self.tokens_l = _padded(self.tokens_l, longest) + _padded(other.tokens_l, longest)

    @property
    def mean_squared_error(self) -> float:
        return self.error / self.tokens

    @property
    def explained_variance(self) -> float | None:
        return _complement(self.error, self.square - (self.total_o.square().sum() / self.tokens).item())

    @property
    def l0_mean(self) -> float:
        return (self.tokens_l * torch.arange(len(self.tokens_l))).sum().item() / self.tokens

    def l0_quantile(self, share: float) -> float:
        """Return the least number of features that at least a share of the tokens do not exceed."""
        rank = max(1, math.ceil(share * self.tokens))
        return float(torch.searchsorted(self.tokens_l.cumsum(0), rank))


@dataclass(slots=True)
class Losses:
    """Sums over predictions of the loss and of the divergence from the clean model's predictions, in nats."""

    predictions: int = 0
    ce_clean: float = 0.0
    ce_spliced: float = 0.0
    ce_ablated: float = 0.0
    kl_spliced: float = 0.0
    kl_ablated: float = 0.0

    def merge(self, other: Losses) -> None:
        """Add the sums of other predictions."""
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + value)

    def means(self) -> dict[str, float | None]:
        """Return nats per prediction, and the shares `ce_recovered` and `kl_score`."""
        sums = asdict(self)
        count = sums.pop("predictions")
        mean = {name: value / count for name, value in sums.items()}
        return mean | {
            "ce_recovered": _share(mean["ce_ablated"] - mean["ce_spliced"], mean["ce_ablated"] - mean["ce_clean"]),
            "kl_score": _share(mean["kl_ablated"] - mean["kl_spliced"], mean["kl_ablated"]),
        }


@dataclass(slots=True)
class Sums:
    """All that is summed for one dictionary."""

    reconstruction: Reconstruction = field(default_factory=Reconstruction)
    losses: Losses = field(default_factory=Losses)

    def merge(self, other: Sums) -> None:
        """Add the sums of another part of the text."""
        self.reconstruction.merge(other.reconstruction)
        self.losses.merge(other.losses)

    def fidelity(self, n_terms: int = 1) -> Fidelity:
        """Return the figures; there must be a token and a prediction."""
        sums = self.reconstruction
        return Fidelity(
            n_tokens=sums.tokens,
            n_predictions=self.losses.predictions,
            l0_mean=sums.l0_mean,
            l0_median=sums.l0_quantile(0.5),
            l0_p90=sums.l0_quantile(0.9),
            mean_squared_error=sums.mean_squared_error,
            explained_variance=sums.explained_variance,
            **self.losses.means(),
            n_terms=n_terms,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Contexts, padded on the right: text is what dictionaries see, and `target_p` follows the scored positions."""

    ids_bt: Tensor
    text_bt: Tensor
    scored_bt: Tensor
    target_p: Tensor


def evaluate(
    model: LanguageModel,
    dictionaries: Mapping[str, Dictionary],
    contexts: ContextTable,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Fidelity]:
    """Measure dictionaries on contexts, in one clean pass of the model and two changed ones for each dictionary.

    A token's prediction is scored where the next token is in the same context; BOS is nobody's. `progress` is told of
    contexts. Raises ModelWithoutHead, UnknownHookPoint, InvalidInput and ActivationsNotFinite.
    """
    model.check_causal()
    groups = _groups(dictionaries)
    if not (np.diff(contexts.indptr_c) > 1 + contexts.has_bos).any():
        raise InvalidInput("No context has two tokens.", "Give more text.")
    sums = [Sums() for _ in groups]
    done = 0
    for batch in _batches(model, contexts):
        for group, total, of_batch in zip(groups, sums, sums_of_batch(model, dictionaries, groups, batch), strict=True):
            total.merge(of_batch)
            _check_finite(group[0], of_batch)
        done += len(batch.ids_bt)
        progress(done, len(contexts))
    measured = {tuple(group): total.fidelity(len(group)) for group, total in zip(groups, sums, strict=True)}
    return {source: fidelity for group, fidelity in measured.items() for source in group}


def _groups(dictionaries: Mapping[str, Dictionary]) -> list[list[str]]:
    """Return the sources that are measured together; raise InvalidInput for those that reconstruct nothing.

    Terms of a sum need all others: which those are, the path says that they are parts of.
    """
    groups, sets = [], {}
    for source, dictionary in dictionaries.items():
        if not dictionary.config.decodes:
            raise InvalidInput(f"{source} only reads: it reconstructs nothing.", "Evaluate the others.", source=source)
        if dictionary.config.is_summand:
            path, _, part = dictionary.config.path.rpartition("#")
            sets.setdefault(path, {})[part] = source
        else:
            groups.append([source])
    for path, source_of in sets.items():
        wanted = parts_of(path)
        missing = [part for part in wanted if part not in source_of]
        if missing:
            raise IncompleteSet(
                f"{', '.join(source_of.values())}: {len(source_of)} of the {len(wanted)} terms whose sum reconstructs.",
                f"Add and evaluate the others with them: {path}#{missing[0]}"
                + (f" to #{missing[-1]}." if len(missing) > 1 else "."),
                path=path,
                missing=missing,
            )
        groups.append([source_of[part] for part in wanted])
    return groups


@torch.inference_mode()
def sums_of_batch(
    model: LanguageModel, dictionaries: Mapping[str, Dictionary], groups: Sequence[Sequence[str]], batch: Batch
) -> list[Sums]:
    """Return the sums of each group over a batch."""
    hooks = {part for d in dictionaries.values() for hook in (d.hook_in, d.hook_out) for part in parts(hook)}
    own = {hook for hook in hooks if model.home(hook) is model}
    x = capture(model, batch.ids_bt, hooks - own)
    with visited(model, {hook: partial(x.__setitem__, hook) for hook in own}):
        clean_pv = _log_probabilities(model, batch)
    ce_clean = functional.nll_loss(clean_pv, batch.target_p, reduction="sum").item()
    found = []
    for group in groups:
        features_n, guess = _sum_of_terms([dictionaries[source] for source in group], x, batch.text_bt)
        sums = Sums(losses=Losses(predictions=len(batch.target_p), ce_clean=ce_clean))
        y_no = torch.cat([x[hook][batch.text_bt] for hook in guess], dim=-1)
        sums.reconstruction.add(features_n, y_no, torch.cat(list(guess.values()), dim=-1))
        zeros = {hook: torch.zeros_like(guess_nd) for hook, guess_nd in guess.items()}
        for name, values in (("spliced", guess), ("ablated", zeros)):
            with spliced(model, {hook: partial(_put, batch.text_bt, value_nd) for hook, value_nd in values.items()}):
                other_pv = _log_probabilities(model, batch)
            ce = functional.nll_loss(other_pv, batch.target_p, reduction="sum").item()
            kl = functional.kl_div(other_pv, clean_pv, reduction="sum", log_target=True).item()
            setattr(sums.losses, f"ce_{name}", ce)
            setattr(sums.losses, f"kl_{name}", kl)
        found.append(sums)
    return found


def _sum_of_terms(
    terms: Sequence[Dictionary], x: Mapping[str, Tensor], text_bt: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return how many features fire at each text token, and the sum of what all terms write at each hook point."""
    features_n = torch.zeros(int(text_bt.sum()), dtype=torch.int64, device=text_bt.device)
    written: dict[str, Tensor] = {}
    for dictionary in terms:
        f, guess_no = _reconstructed(dictionary, side_by_side(x, dictionary.hook_in), text_bt)
        features_n = features_n + f.counts_t.to(features_n.device)
        for hook, share_nd in at_each_point(dictionary.hook_out, guess_no).items():
            written[hook] = written[hook] + share_nd if hook in written else share_nd
    return features_n, written


def _reconstructed(dictionary: Dictionary, x_btd: Tensor, text_bt: Tensor) -> tuple[SparseActivations, Tensor]:
    """Return the activations and the reconstruction of text tokens; encoders of sequences see what is before them."""
    if not dictionary.config.is_sequential:
        x_nd = x_btd[text_bt]
        f = dictionary.encode(x_nd)
        return f, dictionary.decode(f, x_nd)
    # Padding is on the right, where no token of text sees it.
    lengths = [x_btd.shape[1]] * len(x_btd)
    x_td, text_t = x_btd.flatten(0, 1), text_bt.flatten()
    f = dictionary.encode(x_td, lengths)
    return f.rows(text_t), dictionary.decode(f, x_td, lengths)[text_t]


def _log_probabilities(model: LanguageModel, batch: Batch) -> Tensor:
    logits_pv = model.module(batch.ids_bt, use_cache=False).logits[batch.scored_bt]
    return (logits_pv.float() if logits_pv.dtype.itemsize < 4 else logits_pv).log_softmax(-1)


def _put(where_bt: Tensor, value_no: Tensor, x_bto: Tensor) -> Tensor:
    x_bto = x_bto.clone()
    x_bto[where_bt] = value_no.to(x_bto.dtype)
    return x_bto


def _batches(model: LanguageModel, contexts: ContextTable) -> Iterator[Batch]:
    starts_c, lengths_c = contexts.indptr_c[:-1], np.diff(contexts.indptr_c)
    size = max(1, min(BATCH_CONTEXTS, _BATCH_LOGITS // (int(lengths_c.max()) * model.d_vocab)))
    for first in range(0, len(contexts), size):
        starts_b, lengths_b = starts_c[first : first + size, None], lengths_c[first : first + size, None]
        position_t = np.arange(int(lengths_b.max()))
        inside_bt = position_t < lengths_b
        ids_bt = np.where(inside_bt, contexts.token_ids_t[np.where(inside_bt, starts_b + position_t, 0)], 0)
        text_bt = inside_bt & (position_t >= int(contexts.has_bos))
        scored_bt = text_bt & (position_t + 1 < lengths_b)
        arrays = {
            "ids_bt": ids_bt.astype(np.int64),
            "text_bt": text_bt,
            "scored_bt": scored_bt,
            "target_p": np.roll(ids_bt, -1, axis=1)[scored_bt].astype(np.int64),
        }
        yield Batch(**{name: torch.from_numpy(array).to(model.device) for name, array in arrays.items()})


def _check_finite(source: str, sums: Sums) -> None:
    if not all(map(math.isfinite, (sums.reconstruction.error, *asdict(sums.losses).values()))):
        raise ActivationsNotFinite(
            f"{source} does not give finite numbers.",
            "Check the weights of the model and the dictionary, or compute in float32.",
            source=source,
        )


def _padded(tokens_l: Tensor, length: int) -> Tensor:
    return functional.pad(tokens_l, (0, length - len(tokens_l)))


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _complement(part: float, whole: float) -> float | None:
    return 1 - part / whole if whole else None
