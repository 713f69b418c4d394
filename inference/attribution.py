"""Direct feature attribution: how much each source token adds, through attention, to a feature at a destination.

A dictionary of what attention writes sees sums over source tokens s and heads h of P[h, s] v[s, h]: the pattern at the
destination times the values. A feature's pre-activation projects that on its encoder row, so it is a sum over sources
and heads too, and a constant: the biases. A dictionary of `attn.hook_z` has a row for each head; behind the output
projection W_O the row is folded through it. A norm between attention and the dictionary (Gemma 2's and OLMo 2's behind
attention, a dictionary's own) is taken as it is at the destination: its mean and scale are held, which makes the sum
exact for this text, and is stated as `frozen_norm`.

What is left between the sum and the pre-activation that the running model gives is rounding, and is reported.

Shape suffixes: T tokens, D width of the dictionary's input, Z width of all heads' outputs, N asked (a destination
each), S source tokens, H heads, G heads of values, K width of a head.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from threading import get_ident
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from inference.activations import capture
from inference.attention_outputs import untraceable
from inference.dictionaries.architectures.linear import LinearEncoder
from inference.dictionaries.architectures.rescaled import Rescaled
from inference.dictionaries.dictionary import Dictionary
from inference.dictionaries.normalization import EPSILON
from inference.errors import InvalidInput
from inference.hook_points import HookPoint, Norm
from inference.language_models import LanguageModel
from inference.norms import gain
from inference.threads import suited_to
from inference.values import Attribution, HeadShare, SourceAttributions, Tokens
from kernels.source_attribution import source_attribution

# Destinations that are answered where none is named: those where the feature fires most.
STRONGEST = 12
TOP_HEADS = 4
_RECORDING = "facet-recording"


class WithoutAttribution(InvalidInput):
    """A dictionary, or a model, whose features cannot be traced to source tokens; the cause says why."""

    code = "without-attribution"


@torch.inference_mode()
def source_attributions(
    model: LanguageModel,
    dictionary: Dictionary,
    tokens: Tokens,
    index: int,
    *,
    destinations: Sequence[int] | None = None,
    limit: int = STRONGEST,
) -> SourceAttributions:
    """Return what each token of a text adds to a feature at the destinations, strongest first.

    Without `destinations` these are the tokens, BOS left out, where the feature fires most, at most `limit`. The model
    runs once, up to the layer. Raises WithoutAttribution, and InvalidInput for destinations outside the text.
    """
    why = untraceable(architecture=dictionary.config.architecture, hook_in=dictionary.hook_in)
    if why:
        raise _refused(why)
    _check(destinations, tokens)
    home, (point, site) = model.home(dictionary.hook_in), model.resolve(dictionary.hook_in)
    z_name = f"{f'{point.owner}/' if point.owner else ''}blocks.{point.layer}.attn.hook_z"
    z_site = model.resolve(z_name)[1]
    module = _attention(home, z_site.attends or z_site.module.rpartition(".")[0])
    with suited_to(n_weight_bytes=model.n_bytes, n_tokens=len(tokens), device=model.device):
        call = _Call()
        with call.watching(module):
            x = capture(model, model.ids_bt(tokens), [dictionary.hook_in, z_name])
        x_td, z_tz = x[dictionary.hook_in][0], x[z_name][0].float()
        a_t = dictionary.encode_features(x_td, [index], [len(tokens)])[:, 0].float().cpu()
        a_t[: tokens.n_special] = 0
        asked = _strongest(a_t, limit) if destinations is None else list(destinations)
        row = _Row.of(dictionary, index, x_td[asked])
        if point.site == "attn.hook_z":
            reads = row
        else:
            projection = home.module.get_submodule(z_site.module)
            if site.module == z_site.then:
                row = row.before_norm(
                    home.module.get_submodule(z_site.then), home.family.norm, projection(x[z_name][0][asked])
                )
            reads = row.before_projection(projection)
        heads = _Heads.of(home, point, reads.w_nd, *call.attention(module, asked, home.n_heads))
        return SourceAttributions(
            tokens=tokens,
            index=index,
            activations=tuple(a_t.tolist()),
            attributions=tuple(heads.attributions(asked, a_t, reads, row.h_n, z_tz[asked])),
            n_firing=int((a_t != 0).sum()),
            n_heads=home.n_heads,
            frozen_norm=reads.frozen_norm,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Row:
    """A feature's pre-activation at each destination, w_n x + b_n, and its value h_n as the model gives it."""

    w_nd: Tensor
    b_n: Tensor
    h_n: Tensor
    frozen_norm: bool

    @classmethod
    def of(cls, dictionary: Dictionary, index: int, x_nd: Tensor) -> _Row:
        """Return a dictionary's row for inputs as the model has them."""
        encoder, scale = dictionary.encoder, 1.0
        if isinstance(encoder, Rescaled):
            encoder, scale = encoder.encoder, float(encoder.scale_f[index])
        if not isinstance(encoder, LinearEncoder):
            raise _refused(f"Features of the architecture {dictionary.config.architecture} are not one projection.")
        x_nd = x_nd.float()
        w_nd = scale * encoder.w_enc_fd[index].float().expand(len(x_nd), -1)
        b_n = scale * encoder.b_enc_f[index].float().expand(len(x_nd))
        mode = dictionary.config.normalize
        if mode in ("layer_norm", "centred"):
            w_nd = w_nd - w_nd.mean(-1, keepdim=True)
        if mode == "layer_norm":
            w_nd = w_nd / (x_nd.std(-1, keepdim=True) + EPSILON)
        if mode == "constant_norm_rescale":
            w_nd = w_nd / (x_nd.norm(dim=-1, keepdim=True) / x_nd.shape[-1] ** 0.5)
        frozen = mode in ("layer_norm", "constant_norm_rescale")
        return cls(w_nd=w_nd, b_n=b_n, h_n=(w_nd * x_nd).sum(-1) + b_n, frozen_norm=frozen)

    def before_norm(self, module: nn.Module, norm: Norm, x_nd: Tensor) -> _Row:
        """Return the row for what a norm reads, its mean and scale held as they are for x_nd."""
        x_nd = x_nd.float()
        bias_d, gain_d = getattr(module, "bias", None), gain(module, norm)
        b_n = self.b_n if bias_d is None else self.b_n + self.w_nd @ bias_d.float()
        w_nd = self.w_nd if gain_d is None else self.w_nd * gain_d.float()
        epsilon = getattr(module, norm.epsilon) if isinstance(norm.epsilon, str) else norm.epsilon
        if norm.centred:
            w_nd, x_nd = w_nd - w_nd.mean(-1, keepdim=True), x_nd - x_nd.mean(-1, keepdim=True)
        w_nd = w_nd * torch.rsqrt(x_nd.pow(2).mean(-1, keepdim=True) + epsilon)
        return replace(self, w_nd=w_nd, b_n=b_n, frozen_norm=True)

    def before_projection(self, module: nn.Module) -> _Row:
        """Return the row for what a linear module reads: nn.Linear stores its weight by outputs, Conv1D by inputs."""
        weight = module.weight.float()
        w_nz = self.w_nd @ (weight if isinstance(module, nn.Linear) else weight.T)
        bias_d = getattr(module, "bias", None)
        b_n = self.b_n if bias_d is None else self.b_n + self.w_nd @ bias_d.float()
        return replace(self, w_nd=w_nz, b_n=b_n)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Heads:
    """Patterns at the destinations, values, and a feature's row by heads; `first` is the number of the first head."""

    pattern_nhs: Tensor
    value_sgk: Tensor
    w_nhk: Tensor
    first: int = 0

    @classmethod
    def of(cls, model: LanguageModel, point: HookPoint, w_nd: Tensor, pattern_nhs: Tensor, value_sgk: Tensor) -> _Heads:
        if point.head is None:
            w_nhk = w_nd.view(len(w_nd), model.n_heads, model.d_head)
            return cls(pattern_nhs=pattern_nhs, value_sgk=value_sgk, w_nhk=w_nhk)
        head, group = point.head, point.head * value_sgk.shape[1] // model.n_heads
        return cls(
            pattern_nhs=pattern_nhs[:, head : head + 1],
            value_sgk=value_sgk[:, group : group + 1],
            w_nhk=w_nd[:, None],
            first=head,
        )

    def attributions(
        self, asked: Sequence[int], a_t: Tensor, row: _Row, h_n: Tensor, z_nz: Tensor
    ) -> list[Attribution]:
        """Return the sum over heads by sources, and the heads that add or take away most, each with its main source."""
        total_ns = source_attribution(self.pattern_nhs, self.value_sgk, self.w_nhk)
        n_heads, width = self.w_nhk.shape[1:]
        z_nhk = z_nz.unflatten(1, (-1, width))[:, self.first : self.first + n_heads]
        total_nh = (z_nhk * self.w_nhk).sum(-1)
        answers = []
        for n, destination in enumerate(asked):
            sources_s = total_ns[n].double()
            h, bias = float(h_n[n]), float(row.b_n[n])
            answers.append(
                Attribution(
                    destination=destination,
                    activation=float(a_t[destination]),
                    pre_activation=h,
                    sources=tuple(sources_s.tolist()),
                    total=float(sources_s.sum()),
                    bias=bias,
                    remainder=h - float(sources_s.sum()) - bias,
                    heads=tuple(self._shares(n, total_nh[n])),
                )
            )
        return answers

    def _shares(self, n: int, total_h: Tensor) -> list[HeadShare]:
        """Return the largest heads' shares; a head alone is a pattern that is zero for all others."""
        top_r = total_h.abs().topk(min(TOP_HEADS, len(total_h))).indices
        alone_rhs = torch.zeros(len(top_r), *self.pattern_nhs.shape[1:], device=self.pattern_nhs.device)
        for r, h in enumerate(top_r.tolist()):
            alone_rhs[r, h] = self.pattern_nhs[n, h]
        by_source_rs = source_attribution(alone_rhs, self.value_sgk, self.w_nhk[n].expand(len(top_r), -1, -1))
        main_r = by_source_rs.abs().argmax(1)
        return [
            HeadShare(
                head=self.first + h,
                total=float(total_h[h]),
                source=source,
                value=float(by_source_rs[r, source]),
                weight=float(self.pattern_nhs[n, h, source]),
            )
            for r, (h, source) in enumerate(zip(top_r.tolist(), main_r.tolist(), strict=True))
        ]


class _Recorded(Exception):
    """Unwinds a call of an attention module that has shown its pattern and its values."""


@dataclass(slots=True, eq=False)
class _Call:
    """How the running model called an attention module, kept to call a copy of it again."""

    args: tuple = ()
    kwargs: dict[str, Any] = field(default_factory=dict)

    def watching(self, module: nn.Module) -> Any:
        """Remember the next call of the module by this thread."""
        owner = get_ident()

        def remember(_: nn.Module, args: tuple, kwargs: dict) -> None:
            if get_ident() == owner:
                self.args, self.kwargs = args, kwargs

        return module.register_forward_pre_hook(remember, with_kwargs=True)

    def attention(self, module: nn.Module, asked: Sequence[int], n_heads: int) -> tuple[Tensor, Tensor]:
        """Return pattern_nhs at the asked destinations and value_sgk, from the family's own definition of attention.

        The model itself stays as it is: a copy of the module that shares its weights attends in the way that shows
        its pattern, whichever way the model runs.
        """
        seen: list[tuple[Tensor, Tensor]] = []
        alone = copy.copy(module)
        alone.config = copy.copy(module.config)
        alone.config._attn_implementation = _RECORDING
        alone.record = lambda *given, **options: seen.append(_pattern(module, asked, *given, **options))
        if hasattr(module, "_attn"):
            # GPT-Neo attends by a method of its own.
            alone._attn = lambda *given: _whole(module, asked, seen, *given)
        with suppress(_Recorded):
            type(module).forward(alone, *self.args, **self.kwargs)
        [(pattern_nhs, value_sgk)] = seen
        if pattern_nhs.shape[1] != n_heads:
            raise _refused(f"{type(module).__name__} does not keep its {n_heads} heads apart.")
        return pattern_nhs, value_sgk


def _record(module: nn.Module, *given: Tensor, **options: Any) -> None:
    module.record(*given, **options)
    raise _Recorded


AttentionInterface.register(_RECORDING, _record)


def _pattern(
    module: nn.Module,
    asked: Sequence[int],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    **options: Any,
) -> tuple[Tensor, Tensor]:
    """Attend from the asked destinations alone; query and the others are (1, heads, tokens, width)."""
    eager = sys.modules[type(module).__module__].eager_attention_forward
    n_tokens = key.shape[2]
    if mask is None and getattr(module, "is_causal", True):
        # What runs elsewhere then needs no mask to be causal.
        mask = torch.ones(n_tokens, n_tokens, dtype=torch.bool, device=key.device).tril()[None, None]
    if mask is not None:
        mask = mask[:, :, asked, :n_tokens]
        if mask.dtype == torch.bool:
            mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill(~mask, torch.finfo(query.dtype).min)
    weights = eager(module, query[:, :, asked], key, value, mask, **(options | {"dropout": 0.0}))[1]
    return weights[0].transpose(0, 1).float(), value[0].transpose(0, 1).float()


def _whole(
    module: nn.Module,
    asked: Sequence[int],
    seen: list[tuple[Tensor, Tensor]],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
) -> None:
    weights = type(module)._attn(module, query, key, value, mask)[1]
    seen.append((weights[0].transpose(0, 1)[asked].float(), value[0].transpose(0, 1).float()))
    raise _Recorded


def _attention(model: LanguageModel, path: str) -> nn.Module:
    module = model.module.get_submodule(path)
    if not hasattr(module, "config"):
        raise _refused(f"The attention of {model.family.name} ({type(module).__name__}) does not show its pattern.")
    return module


def _strongest(a_t: Tensor, limit: int) -> list[int]:
    firing = a_t.nonzero().squeeze(1)
    return firing[a_t[firing].abs().argsort(descending=True, stable=True)][:limit].tolist()


def _check(destinations: Sequence[int] | None, tokens: Tokens) -> None:
    for destination in destinations or ():
        if not tokens.n_special <= destination < len(tokens):
            raise InvalidInput(
                f"The text has {len(tokens)} tokens, and {destination} is not one that a feature is read at.",
                f"Choose positions from {tokens.n_special} to {len(tokens) - 1}.",
                n=len(tokens),
            )


def _refused(why: str) -> WithoutAttribution:
    return WithoutAttribution(
        f"Its features cannot be traced to source tokens. {why}",
        "Trace features of a dictionary of attention's outputs (attn.hook_z, hook_attn_out).",
    )
