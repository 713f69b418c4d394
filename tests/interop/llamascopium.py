"""llamascopium's dictionaries: SAEs, crosscoders, cross-layer transcoders, sparse attention, mixtures of transforms.

A file holds what the module computes from activations that it has scaled first; with `dataset-wise` the scale comes
from the norms in the same file, with `inference` there is none.
"""

from __future__ import annotations

from functools import partial
from types import ModuleType

import torch
from torch import Tensor, nn

from tests.interop.generated import Case, Expected, K, Task, randomize

IN, OUT = "blocks.1.ln2.hook_normalized", "blocks.1.hook_mlp_out"
STREAM = ("blocks.0.hook_resid_post", "blocks.1.hook_resid_post", "blocks.2.hook_resid_post")
NORMS = (9.0, 3.5, 6.25)


def made(task: Task, kind: str, config: str, **settings: object) -> nn.Module:
    """Build one of the modules with random weights, rounded as the file will hold them; save it and its config."""
    package: ModuleType = __import__("llamascopium")
    settings = {
        "d_model": task.d_in,
        "expansion_factor": task.n_features / task.d_in,
        "top_k": K,
        "dtype": task.dtype,
        "device": "cpu",
        **settings,
    }
    cfg = getattr(package, config)(**settings)
    module = randomize(getattr(package, kind)(cfg))
    if cfg.norm_activation == "dataset-wise":
        module.set_dataset_average_activation_norm(
            {hook: NORMS[number % len(NORMS)] for number, hook in enumerate(cfg.associated_hook_points)}
        )
    module.save_pretrained(task.folder)
    cfg.save_hyperparameters(task.folder)
    module.cfg.dtype = torch.float32
    module = module.float()
    for part in module.modules():
        if hasattr(part, "dtype") and isinstance(part.dtype, torch.dtype):
            part.dtype = torch.float32
    return module


def scale_of(module: nn.Module, hook: str) -> float:
    norms = module.dataset_average_activation_norm
    return 1.0 if module.cfg.norm_activation == "inference" else module.cfg.d_model**0.5 / norms[hook]


def sae(task: Task, hook_out: str = IN, norm: str = "inference", **settings: object) -> list[Expected]:
    names = {"hook_point_in": IN, "hook_point_out": hook_out}
    module = made(task, "SparseAutoEncoder", "SAEConfig", norm_activation=norm, **names, **settings)
    x_td = task.inputs()
    a_tf = module.encode(x_td * scale_of(module, IN))
    y_to = module.decode(a_tf) / scale_of(module, hook_out)
    return [Expected(path=".", x_td=x_td, a_tf=a_tf, y_to=y_to, facts={"hook_in": IN, "hook_out": hook_out})]


def crosscoder(task: Task, norm: str = "inference", **settings: object) -> list[Expected]:
    """Its inputs and outputs lie side by side; what fires at one hook point may not at another."""
    module = made(task, "Crosscoder", "CrosscoderConfig", norm_activation=norm, hook_points=list(STREAM), **settings)
    x_thd = torch.stack([task.inputs(number) for number in range(len(STREAM))], 1)
    scale_h = torch.tensor([scale_of(module, hook) for hook in STREAM])[:, None]
    a_thf = module.encode(x_thd * scale_h)
    y_tho = module.decode(a_thf) / scale_h
    facts = {"hook_in": "+".join(STREAM), "hook_out": "+".join(STREAM)}
    return [Expected(path=".", x_td=x_thd.flatten(1), a_tf=a_thf.amax(1), y_to=y_tho.flatten(1), facts=facts)]


def across(task: Task, norm: str = "inference", **settings: object) -> list[Expected]:
    """A cross-layer transcoder: a layer's features write to it and to all behind it, side by side, with its bias."""
    layers = range(3)
    hooks_in = [f"blocks.{layer}.ln2.hook_normalized" for layer in layers]
    hooks_out = [f"blocks.{layer}.hook_mlp_out" for layer in layers]
    names = {"hook_points_in": hooks_in, "hook_points_out": hooks_out}
    module = made(task, "CrossLayerTranscoder", "CLTConfig", norm_activation=norm, **names, **settings)
    x_tld = torch.stack([task.inputs(layer) for layer in layers], 1)
    scales_in, scales_out = ([scale_of(module, hook) for hook in hooks] for hooks in (hooks_in, hooks_out))
    a_tlf = module.encode(x_tld * torch.tensor(scales_in)[:, None])
    answers = []
    total = torch.zeros(len(layers), *x_tld[:, 0].shape)
    for layer in layers:
        parts = [a_tlf[:, layer] @ module.W_D[to][layer] / scales_out[to] for to in layers[layer:]]
        parts[0] = parts[0] + module.b_D[layer] / scales_out[layer]
        total[layer:] += torch.stack(parts)
        facts = {"hook_in": hooks_in[layer], "hook_out": "+".join(hooks_out[layer:])}
        x_td, a_tf, y_to = x_tld[:, layer], a_tlf[:, layer], torch.cat(parts, 1)
        answers.append(Expected(path=f".#{layer}", x_td=x_td, a_tf=a_tf, y_to=y_to, facts=facts))
    whole = module.decode(a_tlf) / torch.tensor(scales_out)[:, None, None]
    assert torch.allclose(total, whole, rtol=1e-4, atol=1e-4), "the layers add up"
    return answers


def attention(task: Task, norm: str = "inference", **settings: object) -> list[Expected]:
    """Sparse attention, whose features read whole sequences: two of them, one behind the other."""
    heads = max(n for n in (2, 3) if task.n_features % n == 0)
    names = {"hook_point_in": "blocks.1.ln1.hook_normalized", "hook_point_out": "blocks.1.hook_attn_out"}
    sizes = {"n_qk_heads": heads, "d_qk_head": 8, "rotary_dim": 8, "n_ctx": 64}
    module = made(task, "LowRankSparseAttention", "LorsaConfig", norm_activation=norm, **names, **(sizes | settings))
    x_td = task.inputs()
    lengths = (40, len(x_td) - 40)
    scale_in, scale_out = (scale_of(module, hook) for hook in names.values())

    def encode(x_td: Tensor) -> Tensor:
        return module.encode(scale_in * x_td[None])[0]

    a_tf = torch.cat([encode(one) for one in x_td.split(lengths)])
    y_to = module.decode(a_tf[None])[0] / scale_out
    facts = {"hook_in": names["hook_point_in"], "hook_out": names["hook_point_out"]}
    return [Expected(path=".", x_td=x_td, a_tf=a_tf, y_to=y_to, lengths=lengths, facts=facts)]


def mixture(task: Task, norm: str = "inference", **settings: object) -> list[Expected]:
    """A mixture of linear transforms, each of a rank of its own; what a feature writes depends on the input."""
    ranks = {1: task.n_features // 2, 2: task.n_features // 4}
    ranks[4] = task.n_features - sum(ranks.values())
    names = {"hook_point_in": IN, "hook_point_out": OUT}
    module = made(
        task, "MixtureOfLinearTransform", "MOLTConfig", norm_activation=norm, rank_counts=ranks, **names, **settings
    )
    x_td = task.inputs()
    scaled = x_td * scale_of(module, IN)
    a_tf = module.encode(scaled)
    y_to = module.decode(a_tf, original_x=scaled) / scale_of(module, OUT)
    return [Expected(path=".", x_td=x_td, a_tf=a_tf, y_to=y_to, facts={"hook_in": IN, "hook_out": OUT})]


CASES: dict[str, Case] = {
    "sae_relu": partial(sae, act_fn="relu"),
    "sae_jumprelu": partial(sae, act_fn="jumprelu"),
    "sae_topk": partial(sae, act_fn="topk"),
    "sae_plain_norm": partial(sae, act_fn="jumprelu", sparsity_include_decoder_norm=False),
    "sae_without_bias": partial(sae, act_fn="topk", use_decoder_bias=False),
    "sae_glu": partial(sae, act_fn="relu", use_glu_encoder=True),
    "transcoder": partial(sae, act_fn="jumprelu", hook_out=OUT),
    "sae_dataset": partial(sae, act_fn="topk", norm="dataset-wise"),
    "transcoder_dataset": partial(sae, act_fn="jumprelu", hook_out=OUT, norm="dataset-wise"),
    "crosscoder_relu": partial(crosscoder, act_fn="relu"),
    "crosscoder_jumprelu": partial(crosscoder, act_fn="jumprelu"),
    "crosscoder_dataset": partial(crosscoder, act_fn="jumprelu", norm="dataset-wise"),
    "clt_relu": partial(across, act_fn="relu"),
    "clt_jumprelu": partial(across, act_fn="jumprelu"),
    "clt_topk": partial(across, act_fn="topk"),
    "clt_plain_norm": partial(across, act_fn="topk", sparsity_include_decoder_norm=False),
    "clt_dataset": partial(across, act_fn="jumprelu", norm="dataset-wise"),
    "lorsa_relu": partial(attention, act_fn="relu"),
    "lorsa_jumprelu": partial(attention, act_fn="jumprelu"),
    "lorsa_topk": partial(attention, act_fn="topk"),
    "lorsa_half_rotary": partial(attention, act_fn="relu", rotary_dim=4, rotary_adjacent_pairs=False),
    "lorsa_dataset": partial(attention, act_fn="jumprelu", norm="dataset-wise"),
    "lorsa_norms": partial(attention, act_fn="relu", use_post_qk_ln=True, normalization_type="RMS"),
    "molt_relu": partial(mixture, act_fn="relu"),
    "molt_jumprelu": partial(mixture, act_fn="jumprelu"),
    "molt_topk": partial(mixture, act_fn="topk", norm="dataset-wise"),
}
