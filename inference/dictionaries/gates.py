"""Gates by length: dictionaries whose features pass a threshold, or compete, by the length of what they would write.

    a = h [h n > threshold], or the k features with the largest h n,  y = a D

`options["gate"]` says what n is, over all hook points that a feature writes at:
    whole   |D|                         sum     the sum of |D_p| over hook points p
    mixed   shares of whole and sum     each    |D_p| at each point, which makes a gate there

Shape suffixes: O output width, F features, P hook points.
"""

from __future__ import annotations

from torch import Tensor

from inference.dictionaries.config import DictionaryConfig
from inference.hook_points import parts


def fold_gate(config: DictionaryConfig, tensors: dict[str, Tensor]) -> None:
    """Bring thresholds into units of h, or the encoder into units of h n and what it says back (`rescale_f`).

    Takes the decoder as it is stored. A gate at each point leaves `threshold_pf`, and as threshold_f the least of them.
    """
    if config.options["gate"] != "each":
        gate_by(_norm(config, tensors["w_dec_fo"]), config, tensors)
    elif "threshold_f" in tensors:
        by_point = config.options.get("thresholds")
        threshold_f = tensors["threshold_f"]
        threshold_pf = threshold_f[None] if by_point is None else threshold_f.new_tensor(by_point)[:, None]
        tensors["threshold_pf"] = threshold_pf.clamp(min=0) / _norms(config, tensors["w_dec_fo"])
        tensors["threshold_f"] = tensors["threshold_pf"].amin(0)


def gate_by(norm_f: Tensor, config: DictionaryConfig, tensors: dict[str, Tensor]) -> None:
    """Do so for lengths that are known; a ReLU has no gate to move."""
    if "threshold_f" in tensors:
        tensors["threshold_f"] = tensors["threshold_f"].clamp(min=0) / norm_f
    elif config.k is not None:
        tied = tensors["w_enc_fd"] is tensors.get("w_dec_fo")
        tensors["w_enc_fd"] = (tensors["w_enc_fd"].clone() if tied else tensors["w_enc_fd"]).mul_(norm_f[:, None])
        tensors["b_enc_f"] = tensors["b_enc_f"] * norm_f
        tensors["rescale_f"] = 1 / norm_f


def _norm(config: DictionaryConfig, w_dec_fo: Tensor) -> Tensor:
    gate = config.options["gate"]
    if gate == "whole":
        return w_dec_fo.norm(dim=1)
    summed_f = _norms(config, w_dec_fo).sum(0)
    if gate == "sum":
        return summed_f
    of_whole, of_sum = config.options["gate_shares"]
    return of_whole * w_dec_fo.norm(dim=1) + of_sum * summed_f


def _norms(config: DictionaryConfig, w_dec_fo: Tensor) -> Tensor:
    return w_dec_fo.unflatten(1, (len(parts(config.hook_out)), -1)).norm(dim=2).T
