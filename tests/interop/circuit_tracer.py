"""circuit-tracer's transcoders, single, in sets, and across layers.

What its own writers leave out is the folder's config.yaml, which its users write by hand.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from tests.interop.generated import Case, Expected, K, Task, randomize

N_LAYERS = 3
HOOKS = {"feature_input_hook": "mlp.hook_in", "feature_output_hook": "hook_mlp_out"}


def activation_of(kind: str, task: Task) -> nn.Module:
    from circuit_tracer.transcoder.activation_functions import JumpReLU, TopK

    if kind == "jumprelu":
        return JumpReLU(torch.zeros(task.n_features, dtype=task.dtype))
    return TopK(K) if kind == "topk" else nn.ReLU()


def transcoder(task: Task, kind: str, layer: int, *, skip: bool) -> nn.Module:
    from circuit_tracer.transcoder import SingleLayerTranscoder

    made = SingleLayerTranscoder(
        task.d_in,
        task.n_features,
        activation_of(kind, task),
        layer,
        skip_connection=skip,
        dtype=task.dtype,
        device=torch.device("cpu"),
    )
    return randomize(made, seed=layer)


def configure(task: Task, kind: str) -> None:
    lines = [f"{key}: {value}" for key, value in HOOKS.items()] + ["model_kind: transcoder_set"]
    lines += [f"activation: {kind}"] * (kind == "topk") + [f"k: {K}"] * (kind == "topk")
    (task.folder / "config.yaml").write_text("\n".join(lines) + "\n")


def layers(task: Task, kind: str, *, skip: bool = False) -> list[Expected]:
    """A set with a transcoder for every layer; each is a dictionary of its own."""
    from circuit_tracer.transcoder import TranscoderSet

    whole = TranscoderSet({i: transcoder(task, kind, i, skip=skip) for i in range(N_LAYERS)}, **HOOKS)
    whole.to_safetensors(str(task.folder))
    configure(task, kind)
    whole = whole.float()
    answers = []
    for layer, one in enumerate(whole):
        x_td = task.inputs(layer)
        a_tf = one.encode(x_td)
        facts = {"hook_in": f"blocks.{layer}.mlp.hook_in", "hook_out": f"blocks.{layer}.hook_mlp_out"}
        y_to = one.decode(a_tf, x_td if skip else None)
        answers.append(Expected(path=f"layer_{layer}.safetensors", x_td=x_td, a_tf=a_tf, y_to=y_to, facts=facts))
    return answers


def across(task: Task, kind: str) -> list[Expected]:
    """A cross-layer transcoder: a layer's features write to it and to all behind it, side by side, with its bias."""
    from circuit_tracer.transcoder.cross_layer_transcoder import CrossLayerTranscoder

    whole = CrossLayerTranscoder(
        N_LAYERS,
        task.n_features,
        task.d_in,
        activation_function=kind,
        lazy_decoder=False,
        dtype=task.dtype,
        device=torch.device("cpu"),
        **HOOKS,
    )
    randomize(whole).to_safetensors(str(task.folder))
    configure(task, kind)
    whole = whole.float()
    x_ltd = torch.stack([task.inputs(layer) for layer in range(N_LAYERS)])
    a_ltf = whole.encode(x_ltd)
    answers = []
    total = torch.zeros_like(x_ltd)
    for layer in range(N_LAYERS):
        alone = torch.zeros_like(a_ltf)
        alone[layer] = a_ltf[layer]
        y_lto = whole.decode(alone.to_sparse()) - whole.b_dec[:, None]
        y_lto[layer] += whole.b_dec[layer]
        total += y_lto
        y_to = y_lto[layer:].permute(1, 0, 2).flatten(1)
        answers.append(Expected(path=f".#{layer}", x_td=x_ltd[layer], a_tf=a_ltf[layer], y_to=y_to))
    assert torch.allclose(total, whole.decode(a_ltf.to_sparse()), rtol=1e-4, atol=1e-4), "the layers add up"
    return answers


def gemma_scope_2(task: Task, *, skip: bool) -> list[Expected]:
    """What it makes of Gemma Scope 2's cross-layer transcoders, whose files have an axis of layers."""
    from circuit_tracer.transcoder.cross_layer_transcoder import load_gemma_scope_2_clt
    from safetensors.torch import save_file

    folder = task.folder / "gemma-scope-2-1b-pt" / "clt" / "width_10k"
    folder.mkdir(parents=True)
    draw = torch.Generator().manual_seed(7)
    paths = {}
    for layer in range(N_LAYERS):
        w_dec = torch.randn(task.n_features, N_LAYERS, task.d_in, generator=draw) * task.d_in**-0.5
        w_dec[:, :layer] = 0
        stored = {
            "w_enc": torch.randn(task.d_in, task.n_features, generator=draw) * task.d_in**-0.5,
            "b_enc": 0.2 * torch.randn(task.n_features, generator=draw),
            "threshold": 0.1 + 0.5 * torch.rand(task.n_features, generator=draw),
            "w_dec": w_dec,
            "b_dec": 0.2 * torch.randn(task.d_in, generator=draw),
        }
        if skip:
            stored["affine_skip_connection"] = 0.1 * torch.randn(task.d_in, task.d_in, generator=draw)
        paths[layer] = str(folder / f"params_layer_{layer}.safetensors")
        save_file({name: tensor.to(task.dtype) for name, tensor in stored.items()}, paths[layer])
    # Its loader leaves the last path out.
    paths[N_LAYERS] = ""
    whole = load_gemma_scope_2_clt(paths, device=torch.device("cpu"), dtype=torch.float32).float()
    x_ltd = torch.stack([task.inputs(layer) for layer in range(N_LAYERS)])
    a_ltf = whole.encode(x_ltd)
    answers = []
    for layer in range(N_LAYERS):
        alone = torch.zeros_like(a_ltf)
        alone[layer] = a_ltf[layer]
        seen = torch.zeros_like(x_ltd)
        seen[layer] = x_ltd[layer]
        y_lto = whole.decode(alone.to_sparse(), seen if skip else None) - whole.b_dec[:, None]
        y_lto[layer] += whole.b_dec[layer]
        y_to = y_lto[layer:].permute(1, 0, 2).flatten(1)
        path = f"gemma-scope-2-1b-pt/clt/width_10k#{layer}"
        answers.append(Expected(path=path, x_td=x_ltd[layer], a_tf=a_ltf[layer], y_to=y_to))
    return answers


CASES: dict[str, Case] = {
    "relu": partial(layers, kind="relu"),
    "jumprelu": partial(layers, kind="jumprelu"),
    "topk": partial(layers, kind="topk"),
    "skip": partial(layers, kind="relu", skip=True),
    "jumprelu_skip": partial(layers, kind="jumprelu", skip=True),
    "clt_relu": partial(across, kind="relu"),
    "clt_jumprelu": partial(across, kind="jump_relu"),
    "gemma_scope_2_clt": partial(gemma_scope_2, skip=True),
    "gemma_scope_2_clt_plain": partial(gemma_scope_2, skip=False),
}
