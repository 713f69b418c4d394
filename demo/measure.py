"""Measure the demonstration on files that no training has seen.

BOS is left out of every statistic and left as it is by every splice. A splice puts the reconstruction in the place of
the activation, without the error term: that is what "CE recovered" asks about. Explained variance is one minus the
squared error over the squared distance from the mean of the whole sample.

Shape suffixes: B windows, T tokens of a window, N tokens, D width, F features, V vocabulary, X contexts of a feature.
"""

import json
import logging
import math
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from demo.dictionaries import top_k
from demo.tokenizer import BOS_ID, Windows, bytes_per_token
from inference.activations import capture, spliced, visited
from inference.language_models import LanguageModel

log = logging.getLogger(__name__)
CONTEXTS = 20
DENSE = 0.1


class Dictionary:
    """A dictionary as it is shipped: read from cfg.json and sae_weights.safetensors."""

    def __init__(self, folder: Path) -> None:
        self.source = folder.name
        self.cfg = json.loads((folder / "cfg.json").read_text())
        self.weights = load_file(folder / "sae_weights.safetensors")
        self.hook_in = self.cfg["metadata"]["hook_name"]
        self.hook_out = self.cfg["metadata"].get("hook_name_out", self.hook_in)

    def encode(self, x_ND: torch.Tensor) -> torch.Tensor:
        """Return f_NF."""
        w = self.weights
        if self.cfg["apply_b_dec_to_input"]:
            x_ND = x_ND - w["b_dec"]
        h_NF = torch.addmm(w["b_enc"], x_ND, w["W_enc"])
        if self.cfg["architecture"] == "topk":
            return top_k(h_NF, self.cfg["k"])
        return h_NF.relu() * (h_NF > w["threshold"])

    def decode(self, f_NF: torch.Tensor) -> torch.Tensor:
        """Return the reconstruction of the output hook point."""
        return torch.addmm(self.weights["b_dec"], f_NF, self.weights["W_dec"])


@dataclass
class Tally:
    """Running sums over tokens of what one dictionary does."""

    features: int
    tokens: int = 0
    error: float = 0.0
    square: float = 0.0
    total_D: torch.Tensor | float = 0.0
    l0: list[torch.Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.fires_F = torch.zeros(self.features, dtype=torch.long)
        self.peak_FX = torch.zeros(self.features, CONTEXTS)
        self.token_FX = torch.full((self.features, CONTEXTS), -1)

    def add(self, f_NF: torch.Tensor, y_ND: torch.Tensor, guess_ND: torch.Tensor) -> None:
        """Count a batch of tokens."""
        fires_NF = f_NF > 0
        self.tokens += len(f_NF)
        self.error += (y_ND - guess_ND).double().square().sum().item()
        self.square += y_ND.double().square().sum().item()
        self.total_D = self.total_D + y_ND.double().sum(0)
        self.l0.append(fires_NF.sum(1))
        self.fires_F += fires_NF.sum(0)

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
        l0_N = torch.cat(self.l0).double()
        mean_square = (self.total_D.square().sum() / self.tokens).item()
        share_F = self.fires_F / self.tokens
        return {
            "tokens": self.tokens,
            "explained_variance": 1 - self.error / (self.square - mean_square),
            "l0_mean": l0_N.mean().item(),
            "l0_median": l0_N.median().item(),
            "l0_p90": l0_N.kthvalue(math.ceil(0.9 * len(l0_N))).values.item(),
            "dead_share": (self.fires_F == 0).double().mean().item(),
            "dense_share": (share_F > DENSE).double().mean().item(),
            **self._diversity(),
        }

    def _diversity(self) -> dict:
        """Return how many features peak on more than one token, among those with enough contexts to tell."""
        full_F = self.peak_FX[:, -1] > 0
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


@torch.no_grad()
def measure(
    model: LanguageModel,
    dictionaries: list[Dictionary],
    windows: Windows,
    *,
    tokens: int = 1_000_000,
    spliced_tokens: int = 200_000,
    batch: int = 16,
) -> dict:
    """Return `{"model": ..., "dictionaries": {source: ...}}` from the first windows."""
    found = {
        "model": language_model_loss(model, windows, tokens=tokens),
        "dictionaries": statistics(model, dictionaries, windows, tokens=tokens, batch=batch),
    }
    for source, recovered in losses(model, dictionaries, windows, tokens=spliced_tokens, batch=batch).items():
        found["dictionaries"][source] |= recovered
    return found


@torch.no_grad()
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


def statistics(
    model: LanguageModel, dictionaries: list[Dictionary], windows: Windows, *, tokens: int, batch: int
) -> dict[str, dict]:
    """Return each dictionary's sparsity, explained variance, dead and dense shares and diversity of peaks."""
    tallies = {d.source: Tally(d.cfg["d_sae"]) for d in dictionaries}
    hooks = [hook for d in dictionaries for hook in (d.hook_in, d.hook_out)]
    for input_BT, _ in _batches(windows, tokens, batch):
        text_BT = input_BT != BOS_ID
        x = capture(model, input_BT, hooks)
        for d in dictionaries:
            f_NF = d.encode(x[d.hook_in][text_BT])
            tallies[d.source].add(f_NF, x[d.hook_out][text_BT], d.decode(f_NF))
            f_BTF = f_NF.new_zeros(*input_BT.shape, f_NF.shape[1])
            f_BTF[text_BT] = f_NF
            tallies[d.source].add_peaks(f_BTF, input_BT)
    return {source: tally.result() for source, tally in tallies.items()}


def losses(
    model: LanguageModel, dictionaries: list[Dictionary], windows: Windows, *, tokens: int, batch: int
) -> dict[str, dict]:
    """Return the loss clean, with the reconstruction and with zeros at the hook point, and the shares recovered."""
    hooks = [hook for d in dictionaries for hook in (d.hook_in, d.hook_out)]
    names = ("ce_clean", "ce_spliced", "ce_ablated", "kl_spliced", "kl_ablated")
    sums = {d.source: dict.fromkeys(names, 0.0) for d in dictionaries}
    count = 0
    for input_BT, target_BT in _batches(windows, tokens, batch):
        text_BT = input_BT != BOS_ID
        target_N = target_BT[text_BT]
        count += len(target_N)
        x: dict[str, torch.Tensor] = {}
        with visited(model, {hook: partial(x.__setitem__, hook) for hook in hooks}):
            clean_NV = model.module(input_BT, use_cache=False).logits[text_BT].log_softmax(-1)
        for d in dictionaries:
            guess_ND = d.decode(d.encode(x[d.hook_in][text_BT]))
            total = sums[d.source]
            total["ce_clean"] += F.nll_loss(clean_NV, target_N, reduction="sum").item()
            for name, value_ND in (("spliced", guess_ND), ("ablated", torch.zeros_like(guess_ND))):
                with spliced(model, {d.hook_out: partial(_put, text_BT, value_ND)}):
                    other_NV = model.module(input_BT, use_cache=False).logits[text_BT].log_softmax(-1)
                total[f"ce_{name}"] += F.nll_loss(other_NV, target_N, reduction="sum").item()
                total[f"kl_{name}"] += F.kl_div(other_NV, clean_NV, reduction="sum", log_target=True).item()
    for total in sums.values():
        for name in names:
            total[name] /= count
        total["ce_recovered"] = (total["ce_ablated"] - total["ce_spliced"]) / (total["ce_ablated"] - total["ce_clean"])
        total["kl_score"] = (total["kl_ablated"] - total["kl_spliced"]) / total["kl_ablated"]
        total["spliced_tokens"] = count
    return sums


def _put(where_BT: torch.Tensor, value_ND: torch.Tensor, x_BTD: torch.Tensor) -> torch.Tensor:
    x_BTD = x_BTD.clone()
    x_BTD[where_BT] = value_ND
    return x_BTD


def _batches(windows: Windows, tokens: int, batch: int):
    rows = range(min(max(tokens // windows.context, 1), windows.count))
    for start in range(0, len(rows), batch):
        yield tuple(torch.from_numpy(array) for array in windows.take(list(rows[start : start + batch])))
