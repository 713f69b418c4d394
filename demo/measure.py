"""Measure the demonstration on files that no training has seen.

What fidelity is, `inference/evaluation.py` says; here are the text, and what tells apart features that fire.

Shape suffixes: B windows, T tokens of a window, N tokens, D width, F features, V vocabulary, X contexts of a feature.
"""

import copy
import math
from dataclasses import dataclass, field, replace

import torch
from torch.nn import functional as F

from demo.cores import one_thread_each
from demo.sources import SourceFile
from demo.tokenizer import BOS_ID, Windows, bytes_per_token, token_stream
from inference.activations import capture
from inference.dictionaries.dictionary import Dictionary
from inference.dictionaries.sparse import SparseActivations
from inference.evaluation import Batch, Losses, Reconstruction, sums_of_batch
from inference.language_models import LanguageModel

CONTEXTS = 20
DENSE = 0.1


@dataclass
class Tally:
    """Running sums over tokens of what one dictionary does."""

    features: int
    sums: Reconstruction = field(default_factory=Reconstruction)

    def __post_init__(self) -> None:
        self.fires_F = torch.zeros(self.features, dtype=torch.long)
        self.peak_FX = torch.zeros(self.features, CONTEXTS)
        self.token_FX = torch.full((self.features, CONTEXTS), -1)

    def add(self, f: SparseActivations, y_ND: torch.Tensor, guess_ND: torch.Tensor) -> None:
        """Count a batch of tokens."""
        self.sums.add(f.counts_t, y_ND, guess_ND)
        self.fires_F += f.indices_n.bincount(minlength=self.features)

    def add_peaks(self, f_BTF: torch.Tensor, input_BT: torch.Tensor) -> None:
        """Keep, for each feature, the contexts where it peaks highest and the tokens at those peaks."""
        peak_BF, place_BF = f_BTF.max(1)
        token_BF = input_BT.gather(1, place_BF)
        peaks = torch.cat([self.peak_FX, peak_BF.T], 1)
        tokens = torch.cat([self.token_FX, token_BF.T], 1)
        self.peak_FX, index_FX = peaks.topk(CONTEXTS, dim=1)
        self.token_FX = tokens.gather(1, index_FX)

    def result(self) -> dict:
        """Return the statistics."""
        share_F = self.fires_F / self.sums.tokens
        return {
            "tokens": self.sums.tokens,
            "explained_variance": self.sums.explained_variance,
            "l0_mean": self.sums.l0_mean,
            "l0_median": self.sums.l0_quantile(0.5),
            "l0_p90": self.sums.l0_quantile(0.9),
            "dead_share": (self.fires_F == 0).double().mean().item(),
            "dense_share": (share_F > DENSE).double().mean().item(),
            **self._diversity(),
        }

    def _diversity(self) -> dict:
        """Return how many features peak on more than one token, among those with enough contexts to tell."""
        full_F = self.peak_FX[:, -1] > 0
        if not full_F.any():
            return {"features_with_contexts": 0, "no_token_has_half": None, "three_tokens_or_more": None}
        token_FX = self.token_FX[full_F]
        same_FXX = (token_FX[:, :, None] == token_FX[:, None, :]).double()
        # The mean over contexts of -log(share of the context's own token) is the entropy of the token's distribution.
        share_FX = same_FXX.mean(2)
        kinds_F = share_FX.log().neg().mean(1).exp()
        return {
            "features_with_contexts": int(full_F.sum()),
            "no_token_has_half": (share_FX.max(1).values < 0.5).double().mean().item(),
            "three_tokens_or_more": (kinds_F >= 3).double().mean().item(),
        }


def measure(
    model: LanguageModel,
    dictionaries: dict[str, Dictionary],
    windows: Windows,
    *,
    tokens: int,
    spliced_tokens: int,
    batch: int = 16,
) -> dict:
    """Return `{"model": ..., "dictionaries": {source: ...}}` from the first windows."""
    # Hooks belong to a module, so what runs side by side needs modules of its own.
    other = replace(model, module=copy.deepcopy(model.module))
    with one_thread_each(model.device) as cores:
        spliced_losses = cores.pool.submit(losses, other, dictionaries, windows, tokens=spliced_tokens, batch=batch)
        shares = cores.pool.submit(statistics, model, dictionaries, windows, tokens=tokens, batch=batch)
        found = {"dictionaries": shares.result()}
        found["model"] = language_model_loss(model, windows, tokens=tokens, batch=batch)
        for source, recovered in spliced_losses.result().items():
            found["dictionaries"][source] |= recovered
    return found


@torch.inference_mode()
def language_model_loss(model: LanguageModel, windows: Windows, *, tokens: int, batch: int = 16) -> dict:
    """Return nats per token and bits per byte of the targets after each window's first."""
    length_V = torch.from_numpy(bytes_per_token(model.tokenizer))
    nats = count = size = 0
    for input_BT, target_BT in _batches(windows, tokens, batch):
        logits_BTV = model.module(input_BT, use_cache=False).logits[:, 1:]
        target_N = target_BT[:, 1:].flatten()
        nats += F.cross_entropy(logits_BTV.flatten(0, 1), target_N, reduction="sum").item()
        count += len(target_N)
        size += length_V[target_N].sum().item()
    return {"tokens": count, "nats_per_token": nats / count, "bits_per_byte": nats / math.log(2) / size}


def standard_library_loss(model: LanguageModel, sources: list[SourceFile], *, tokens: int, batch: int = 16) -> dict:
    """Return the loss on the standard library alone: a package's files share more with one another than its do."""
    held_out = [s for s in sources if s.split == "held-out" and s.name.startswith("stdlib/")]
    windows = Windows(token_stream(model.tokenizer, held_out), model.context_size)
    return language_model_loss(model, windows, tokens=tokens, batch=batch)


@torch.inference_mode()
def statistics(
    model: LanguageModel, dictionaries: dict[str, Dictionary], windows: Windows, *, tokens: int, batch: int
) -> dict[str, dict]:
    """Return each dictionary's sparsity, explained variance, dead and dense shares and diversity of peaks."""
    tallies = {source: Tally(d.n_features) for source, d in dictionaries.items()}
    hooks = [hook for d in dictionaries.values() for hook in (d.hook_in, d.hook_out)]
    for input_BT, _ in _batches(windows, tokens, batch):
        text_BT = input_BT != BOS_ID
        x = capture(model, input_BT, hooks)
        for source, d in dictionaries.items():
            f = d.encode(x[d.hook_in][text_BT])
            tallies[source].add(f, x[d.hook_out][text_BT], d.decode(f))
            f_BTF = torch.zeros(*input_BT.shape, d.n_features)
            f_BTF[text_BT] = f.dense()
            tallies[source].add_peaks(f_BTF, input_BT)
    return {source: tally.result() for source, tally in tallies.items()}


def losses(
    model: LanguageModel, dictionaries: dict[str, Dictionary], windows: Windows, *, tokens: int, batch: int
) -> dict[str, dict]:
    """Return the loss clean, with the reconstruction and with zeros at the hook point, and the shares recovered."""
    sums = {source: Losses() for source in dictionaries}
    for input_BT, target_BT in _batches(windows, tokens, batch):
        text_BT = input_BT != BOS_ID
        read = Batch(ids_bt=input_BT, text_bt=text_BT, scored_bt=text_BT, target_p=target_BT[text_BT])
        each = [[source] for source in dictionaries]
        for source, of_batch in zip(dictionaries, sums_of_batch(model, dictionaries, each, read), strict=True):
            sums[source].merge(of_batch.losses)
    return {source: {**total.means(), "spliced_tokens": total.predictions} for source, total in sums.items()}


def _batches(windows: Windows, tokens: int, batch: int):
    rows = range(min(max(tokens // windows.context, 1), windows.count))
    for start in range(0, len(rows), batch):
        yield tuple(torch.from_numpy(array) for array in windows.take(list(rows[start : start + batch])))
