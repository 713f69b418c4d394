"""What a dictionary's weights say without any text: neighbours by direction, and direct effect on the logits.

The effect of a feature is that of its unit output direction d through the final norm's gain g and the unembedding; of a
transcoder that writes at several hook points what it writes counts together, of a crosscoder the last point alone, and
of what compares several models only what it writes in this one:
W_U diag(g) d, with d centred first where the norm centres, and then centred over the vocabulary. Directions at heads'
outputs go through W_O first and those behind the MLP's activation through its output matrix; a transcoder's direction
is the one that it writes. A norm between the site and the residual stream lends its gain. Scales of norms,
which depend on the text, are left out, and so are activation functions and everything that later layers do.

Shape suffixes: F features, D model width, O output width, V vocabulary, C a chunk of features, B bins, K kept.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from inference.activations import at_each_point
from inference.dictionaries.dictionary import Dictionary
from inference.hook_points import HookPoint, Site, parts
from inference.language_models import LanguageModel
from inference.norms import gain
from kernels.extremes import extremes_of
from kernels.neighbours import neighbours as nearest_rows

N_NEIGHBOURS, N_TOKENS, LOGIT_BINS = 16, 20, 40
_CHUNK_ELEMENTS = 1 << 22
# Rows of the unembedding that become 32-bit floats together.
_TOKENS_AT_ONCE = 1 << 14


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """What weights say of every feature; ids are -1 and values 0 where a dictionary or a model has no such thing."""

    decoder_neighbour_ids_fk: np.ndarray
    decoder_neighbour_cosines_fk: np.ndarray
    encoder_neighbour_ids_fk: np.ndarray
    encoder_neighbour_cosines_fk: np.ndarray
    promoted_ids_fk: np.ndarray
    promoted_values_fk: np.ndarray
    suppressed_ids_fk: np.ndarray
    suppressed_values_fk: np.ndarray
    logit_histogram_fb: np.ndarray
    logit_edges_fe: np.ndarray
    logit_deviation_f: np.ndarray
    logit_skewness_f: np.ndarray
    logit_kurtosis_f: np.ndarray

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        return {column.name: getattr(self, column.name) for column in fields(self)}


def geometry_of(model: LanguageModel, dictionary: Dictionary) -> Geometry:
    """Look at a dictionary's weights: its encoder's, its decoder's, and these beside the model's unembedding."""
    n, writes = dictionary.n_features, dictionary.config.has_directions
    encoder = neighbours(dictionary.encoder_directions()) if dictionary.config.has_projections else _no_neighbours(n)
    decoder = neighbours(dictionary.decoder_directions()) if writes else _no_neighbours(n)
    effects = logit_effects(model, dictionary) if writes and model.family.causal else _no_effects(n)
    return Geometry(
        decoder_neighbour_ids_fk=decoder[0],
        decoder_neighbour_cosines_fk=decoder[1],
        encoder_neighbour_ids_fk=encoder[0],
        encoder_neighbour_cosines_fk=encoder[1],
        **effects,
    )


@torch.inference_mode()
def neighbours(rows_fd: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return `(ids_fk, cosines_fk)` of the features with the most similar rows, padded with -1 and 0."""
    cosines_fk, ids_fk = nearest_rows(_unit(rows_fd.float()), N_NEIGHBOURS)
    return ids_fk.int().cpu().numpy(), cosines_fk.cpu().numpy()


@torch.inference_mode()
def logit_effects(model: LanguageModel, dictionary: Dictionary) -> dict[str, np.ndarray]:
    """Return the promoted and suppressed tokens, histogram and moments of every feature's direct effect, by name."""
    norm = model.module.get_submodule(model.family.sites["ln_final.hook_normalized"].module)
    gain_d = gain(norm, model.family.norm)
    w_u_vd = model.unembedding.weight
    mean_d = w_u_vd.mean(0, dtype=torch.float32)
    size, parts = _rows(len(w_u_vd)), []
    for start in range(0, dictionary.n_features, size):
        chunk = torch.arange(start, min(start + size, dictionary.n_features), device=dictionary.device)
        direction_cd = _residual_directions(model, dictionary, chunk)
        if model.family.norm.centred:
            direction_cd = direction_cd - direction_cd.mean(1, keepdim=True)
        if gain_d is not None:
            direction_cd = direction_cd * gain_d.float()
        effect_cv = torch.cat([direction_cd @ some_vd.float().T for some_vd in w_u_vd.split(_TOKENS_AT_ONCE)], dim=1)
        parts.append(_reduced(effect_cv - (direction_cd @ mean_d)[:, None]))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def logit_path(model: LanguageModel, dictionary: Dictionary) -> str:
    """Say in a few words how a dictionary's directions reach the residual stream."""
    point, site = model.resolve([name for name in parts(dictionary.hook_out) if model.home(name) is model][-1])
    if site.width != "model":
        return f"through {_writer(model, point, site).module}"
    return "taken as residual directions" if site.normalized else "directions of the residual stream"


def _residual_directions(model: LanguageModel, dictionary: Dictionary, features_c: Tensor) -> Tensor:
    """Return the unit decoder rows of some features as directions of the residual stream, [C, D]."""
    shares = at_each_point(dictionary.hook_out, _unit(dictionary.decoder_directions(features_c).float()))
    shares = {name: share_fd for name, share_fd in shares.items() if model.home(name) is model}
    if dictionary.config.is_transcoder:
        return torch.stack([_at_point(model, name, share_fd) for name, share_fd in shares.items()]).sum(0)
    last, share_fd = shares.popitem()
    return _at_point(model, last, _unit(share_fd))


def _at_point(model: LanguageModel, hook_name: str, unit_fo: Tensor) -> Tensor:
    """Return directions at one hook point as directions of the residual stream."""
    point, site = model.resolve(hook_name)
    if site.width == "model":
        return _behind_norm(model, site, unit_fo)
    if point.head is not None:
        wide = unit_fo.new_zeros(len(unit_fo), model.n_heads * model.d_head)
        wide[:, point.head * model.d_head : (point.head + 1) * model.d_head] = unit_fo
        unit_fo = wide
    writer = _writer(model, point, site)
    module = model.module.get_submodule(writer.module)
    unit_fo = unit_fo.to(model.dtype)
    return _behind_norm(model, writer, (module(unit_fo) - module(torch.zeros_like(unit_fo[:1]))).float())


def _writer(model: LanguageModel, point: HookPoint, site: Site) -> Site:
    """Return the site whose module projects into the residual stream: behind the activation function for neurons."""
    before_activation = site.width == "mlp" and site.end == "output"
    return model.resolve(f"blocks.{point.layer}.mlp.hook_post")[1] if before_activation else site


def _behind_norm(model: LanguageModel, site: Site, direction_fd: Tensor) -> Tensor:
    """Return directions behind the gain of the norm between a site and the residual stream, where there is one."""
    if site.then is None:
        return direction_fd
    gain_d = gain(model.module.get_submodule(site.then), model.family.norm)
    return direction_fd if gain_d is None else direction_fd * gain_d.float()


def _reduced(effect_cv: Tensor) -> dict[str, np.ndarray]:
    found = extremes_of(effect_cv, min(N_TOKENS, effect_cv.shape[1]), n_bins=LOGIT_BINS)
    lowest_c, highest_c = found.smallest_ck[:, 0].double(), found.largest_ck[:, 0].double()
    share_e = torch.linspace(0, 1, LOGIT_BINS + 1, dtype=torch.float64, device=effect_cv.device)
    _, variance_c, third_c, fourth_c = found.central_c4.double().unbind(1)
    scale_c = variance_c.clamp(min=1e-30)
    arrays = {
        "promoted_ids_fk": found.largest_indices_ck.int(),
        "promoted_values_fk": found.largest_ck,
        "suppressed_ids_fk": found.smallest_indices_ck.int(),
        "suppressed_values_fk": found.smallest_ck,
        "logit_histogram_fb": found.histogram_cb.int(),
        "logit_edges_fe": (lowest_c[:, None] + (highest_c - lowest_c).clamp(min=1e-30)[:, None] * share_e).float(),
        "logit_deviation_f": variance_c.sqrt().float(),
        "logit_skewness_f": (third_c / scale_c**1.5).float(),
        "logit_kurtosis_f": (fourth_c / scale_c**2 - 3).float(),
    }
    return {name: array.cpu().numpy() for name, array in arrays.items()}


def _no_neighbours(n: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full((n, N_NEIGHBOURS), -1, dtype=np.int32), np.zeros((n, N_NEIGHBOURS), dtype=np.float32)


def _no_effects(n: int) -> dict[str, np.ndarray]:
    return {
        "promoted_ids_fk": np.full((n, N_TOKENS), -1, dtype=np.int32),
        "promoted_values_fk": np.zeros((n, N_TOKENS), dtype=np.float32),
        "suppressed_ids_fk": np.full((n, N_TOKENS), -1, dtype=np.int32),
        "suppressed_values_fk": np.zeros((n, N_TOKENS), dtype=np.float32),
        "logit_histogram_fb": np.zeros((n, LOGIT_BINS), dtype=np.int32),
        "logit_edges_fe": np.zeros((n, LOGIT_BINS + 1), dtype=np.float32),
        **{f"logit_{moment}_f": np.zeros(n, dtype=np.float32) for moment in ("deviation", "skewness", "kurtosis")},
    }


def _unit(rows: Tensor) -> Tensor:
    """Return rows of length one; rows that are zero or not finite become zero."""
    rows = torch.where(rows.isfinite().all(1, keepdim=True), rows, 0.0)
    length = rows.norm(dim=1, keepdim=True)
    return torch.where(length > 0, rows / length.clamp(min=1e-30), 0.0)


def _rows(width: int) -> int:
    return max(1, _CHUNK_ELEMENTS // width)
