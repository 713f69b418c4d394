"""Tiny dictionaries of several hook points, of sequences and of transforms, that fit the models of `tests.tiny`."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor

WIDTH, LAYERS = 32, 3
CROSSCODER_POINTS = "blocks.0.hook_resid_post+blocks.2.hook_resid_post"


def tiny_clt(folder: Path, *, n_features: int = 96, seed: int = 0) -> Path:
    """Save a cross-layer transcoder of three layers as circuit-tracer does; its parts are `<folder>#0` to `#2`."""
    draw = _Draw(seed)
    folder.mkdir(parents=True)
    for layer in range(LAYERS):
        encoder = {
            f"W_enc_{layer}": draw(n_features, WIDTH, scale=WIDTH**-0.5),
            f"b_enc_{layer}": draw(n_features, scale=0.2),
            f"b_dec_{layer}": draw(WIDTH, scale=0.2),
            f"threshold_{layer}": 0.3 + draw(n_features, scale=0.2).abs(),
        }
        save_file(encoder, folder / f"W_enc_{layer}.safetensors")
        decoders = {f"W_dec_{layer}": draw(n_features, LAYERS - layer, WIDTH, scale=WIDTH**-0.5)}
        save_file(decoders, folder / f"W_dec_{layer}.safetensors")
    sites = {"feature_input_hook": "hook_resid_mid", "feature_output_hook": "hook_mlp_out"}
    (folder / "config.yaml").write_text(yaml.safe_dump({"model_kind": "cross_layer_transcoder", **sites}))
    return folder


def tiny_crosscoder(folder: Path, *, points: str = CROSSCODER_POINTS, n_features: int = 96, seed: int = 1) -> Path:
    """Save a crosscoder as crosscoder_learning does, with its hook points in facet.json."""
    draw, n_points = _Draw(seed), points.count("+") + 1
    folder.mkdir(parents=True)
    stored = {
        "encoder.weight": draw(n_points, WIDTH, n_features, scale=WIDTH**-0.5),
        "encoder.bias": draw(n_features, scale=0.2),
        "decoder.weight": draw(n_points, n_features, WIDTH, scale=WIDTH**-0.5),
        "decoder.bias": draw(n_points, WIDTH, scale=0.2),
        "code_normalization_id": torch.tensor(1),
        "threshold": torch.tensor(3.0),
        "k": torch.tensor(8),
    }
    save_file(stored, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"dict_class": "BatchTopKCrossCoder"}))
    (folder / "facet.json").write_text(json.dumps({"hook_in": points}))
    return folder


def tiny_temporal(folder: Path, *, layer: int = 1, n_features: int = 96, seed: int = 2) -> Path:
    """Save a temporal SAE as it is published."""
    draw = _Draw(seed)
    path = folder / f"layer_{layer}" / "temporal"
    path.mkdir(parents=True)
    stored = {"D": draw(n_features, WIDTH, scale=WIDTH**-0.5), "b": draw(WIDTH, scale=0.2)}
    for name, rows in (("k_ctx", 12), ("q_target", 12), ("v_ctx", n_features), ("c_proj", n_features)):
        stored[f"attn_layers.0.{name}.weight"] = draw(rows, n_features, scale=100 * n_features**-0.5)
        stored[f"attn_layers.0.{name}.bias"] = draw(rows, scale=0.2)
    save_file(stored, path / "latest_ckpt.safetensors")
    sae = {"n_heads": 4, "n_attn_layers": 1, "kval_topk": 8, "sae_diff_type": "topk", "scaling_factor": 0.5}
    (path / "conf.yaml").write_text(yaml.safe_dump({"llm": {"dimin": WIDTH}, "sae": sae | {"tied_weights": True}}))
    return path


def tiny_molt(folder: Path, *, layer: int = 1, seed: int = 3) -> Path:
    """Save a mixture of linear transforms as llamascopium does."""
    draw = _Draw(seed)
    folder.mkdir(parents=True)
    ranks = {2: 40, 4: 24}
    n_features = sum(ranks.values())
    points = {"hook_point_in": f"blocks.{layer}.ln2.hook_normalized", "hook_point_out": f"blocks.{layer}.hook_mlp_out"}
    stored = {
        "W_E": draw(WIDTH, n_features, scale=WIDTH**-0.5),
        "b_E": draw(n_features, scale=0.2),
        "b_D": draw(WIDTH, scale=0.2),
    }
    for rank, count in ranks.items():
        stored[f"U_matrices.{rank}"] = draw(count, WIDTH, rank, scale=WIDTH**-0.5)
        stored[f"V_matrices.{rank}"] = draw(count, rank, WIDTH, scale=WIDTH**-0.5)
    for point in points.values():
        stored[f"dataset_average_activation_norm.{point}"] = torch.tensor(5.0)
    save_file(stored, folder / "sae_weights.safetensors")
    cfg = {"sae_type": "molt", "act_fn": "topk", "top_k": 8, "rank_counts": ranks, **points}
    (folder / "config.json").write_text(json.dumps(cfg))
    return folder


class _Draw:
    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, *shape: int, scale: float = 1.0) -> Tensor:
        return scale * torch.randn(*shape, generator=self.generator)
