"""Train the demonstration's dictionaries, all from one stream of activations, and write them as SAELens does.

A transcoder reads one hook point and predicts another; an autoencoder is the case where both are the same. Two ways to
be sparse: TopK keeps the k largest features of each token; BatchTopK keeps the k·N largest of a batch of N tokens and
is saved, as SAELens saves it, as a JumpReLU whose threshold is the running mean of the batches' thresholds.

Training sees inputs and targets scaled to unit variance per dimension; `folded` takes the scales into the weights, so
that the shipped dictionary reads raw activations. Decoder rows have unit norm.

Shape suffixes: N tokens, D input width, O output width, F features, K kept features.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Plan:
    """A dictionary to train: its source id, its SAELens architecture and its hook points."""

    source: str
    architecture: str
    hook_in: str
    hook_out: str
    features: int = 2048
    k: int = 32

    @property
    def transcodes(self) -> bool:
        return self.hook_in != self.hook_out

    @property
    def batch_top_k(self) -> bool:
        return self.architecture.startswith("jumprelu")


PLANS = (
    Plan("1-res-topk", "topk", "blocks.1.hook_resid_post", "blocks.1.hook_resid_post"),
    Plan("2-res-jump", "jumprelu", "blocks.2.hook_resid_post", "blocks.2.hook_resid_post", k=30),
    Plan("2-att-topk", "topk", "blocks.2.attn.hook_z", "blocks.2.attn.hook_z"),
    Plan("2-tc-jump", "jumprelu_transcoder", "blocks.2.ln2.hook_normalized", "blocks.2.hook_mlp_out", k=30),
)


class Trainee(nn.Module):
    """A dictionary in training, in scaled units."""

    def __init__(self, plan: Plan, x_ND: torch.Tensor, y_NO: torch.Tensor, *, seed: int, dead_after: int) -> None:
        super().__init__()
        self.plan, self.dead_after = plan, dead_after
        self.register_buffer("scale_in", 1 / (x_ND - x_ND.mean(0)).square().mean().sqrt())
        self.register_buffer("scale_out", 1 / (y_NO - y_NO.mean(0)).square().mean().sqrt())
        x_ND, y_NO = x_ND * self.scale_in, y_NO * self.scale_out
        generator = torch.Generator().manual_seed(seed)
        W_enc_DF = F.normalize(torch.randn(x_ND.shape[1], plan.features, generator=generator), dim=0).to(x_ND.device)
        # The decoder starts where a linear map from input to output sends the encoder: at its transpose if both agree.
        map_DO = _linear_map(x_ND, y_NO) if plan.transcodes else torch.eye(x_ND.shape[1], device=x_ND.device)
        self.W_enc_DF = nn.Parameter(W_enc_DF)
        self.W_dec_FO = nn.Parameter(F.normalize(W_enc_DF.T @ map_DO, dim=1))
        self.b_enc_F = nn.Parameter(torch.zeros(plan.features, device=x_ND.device))
        self.b_dec_O = nn.Parameter(y_NO.mean(0).clone())
        self.register_buffer("threshold", torch.zeros((), device=x_ND.device))
        self.register_buffer("silent_F", torch.zeros(plan.features, dtype=torch.long, device=x_ND.device))

    def loss(self, x_ND: torch.Tensor, y_NO: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
        """Return the loss of a batch, and what to log: unexplained variance and the share of silent features."""
        x_ND, y_NO = x_ND * self.scale_in, y_NO * self.scale_out
        centred_ND = x_ND if self.plan.transcodes else x_ND - self.b_dec_O.detach()
        # addmm, and not a sum, so that under autocast the large h_NF stays in bfloat16.
        h_NF = torch.addmm(self.b_enc_F, centred_ND, self.W_enc_DF)
        f_NF = self._batch_top_k(h_NF) if self.plan.batch_top_k else top_k(h_NF, self.plan.k)
        error_NO = y_NO - torch.addmm(self.b_dec_O, f_NF, self.W_dec_FO)
        loss = error_NO.square().mean()
        silent_F = self.silent_F > self.dead_after
        self.silent_F = torch.where(f_NF.detach().sum(0) > 0, 0, self.silent_F + len(x_ND))
        facts = {
            "fvu": (error_NO.detach().square().sum() / (y_NO - y_NO.mean(0)).square().sum()).item(),
            "silent": silent_F.float().mean().item(),
        }
        if silent_F.any():
            loss = loss + self._auxiliary(h_NF[:, silent_F], self.W_dec_FO[silent_F], error_NO.detach()) / 32
        return loss, facts

    def _batch_top_k(self, h_NF: torch.Tensor) -> torch.Tensor:
        # An eighth of the shuffled batch estimates the batch's threshold as well as all of it, and costs an eighth.
        sample = h_NF.detach()[: max(len(h_NF) // 8, 1)].float()
        threshold = sample.flatten().topk(self.plan.k * len(sample)).values[-1].clamp(min=0)
        if self.training:
            self.threshold = threshold if self.threshold == 0 else torch.lerp(self.threshold, threshold, 0.01)
        return h_NF * (h_NF > threshold)

    def _auxiliary(self, h_NS: torch.Tensor, W_dec_SO: torch.Tensor, error_NO: torch.Tensor) -> torch.Tensor:
        """Return how badly the silent features alone explain the error: the loss that brings them back."""
        guess_NO = top_k(h_NS, min(error_NO.shape[1] // 2, h_NS.shape[1])) @ W_dec_SO
        return (error_NO - guess_NO).square().mean() / error_NO.square().mean()

    @torch.no_grad()
    def normalize(self) -> None:
        """Bring the decoder's rows back to unit norm."""
        self.W_dec_FO.div_(self.W_dec_FO.norm(dim=1, keepdim=True))

    @torch.no_grad()
    def folded(self) -> dict[str, torch.Tensor]:
        """Return the weights in SAELens' names, for raw activations."""
        weights = {
            "W_enc": self.W_enc_DF * (self.scale_in / self.scale_out),
            "b_enc": self.b_enc_F / self.scale_out,
            "W_dec": self.W_dec_FO,
            "b_dec": self.b_dec_O / self.scale_out,
        }
        if self.plan.batch_top_k:
            weights["threshold"] = (self.threshold / self.scale_out).expand(self.plan.features)
        return {name: tensor.detach().float().cpu().contiguous().clone() for name, tensor in weights.items()}


def top_k(h_NF: torch.Tensor, k: int) -> torch.Tensor:
    """Return h_NF with all but the k largest of each row, and what is negative among them, set to zero."""
    value_NK, index_NK = h_NF.topk(k, dim=1, sorted=False)
    return torch.zeros_like(h_NF).scatter_(1, index_NK, value_NK.relu())


def _linear_map(x_ND: torch.Tensor, y_NO: torch.Tensor) -> torch.Tensor:
    x_ND, y_NO = x_ND - x_ND.mean(0), y_NO - y_NO.mean(0)
    ridge_DD = 0.01 * len(x_ND) * torch.eye(x_ND.shape[1], device=x_ND.device)
    return torch.linalg.solve(x_ND.T @ x_ND + ridge_DD, x_ND.T @ y_NO)


def config(plan: Plan, *, d_in: int, d_out: int, context: int, facts: dict) -> dict:
    """Return the cfg.json that SAELens v6 writes for such a dictionary."""
    cfg = {
        "architecture": plan.architecture,
        "d_in": d_in,
        "d_sae": plan.features,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": not plan.transcodes,
        "normalize_activations": "none",
        "reshape_activations": "hook_z" if plan.hook_in.endswith("hook_z") else "none",
        "metadata": {
            "model_name": "facet-demo",
            "model_class_name": "HookedTransformer",
            "model_from_pretrained_kwargs": {"center_writing_weights": False},
            "hook_name": plan.hook_in,
            "hook_head_index": None,
            "prepend_bos": True,
            "exclude_special_tokens": True,
            "context_size": context,
            "seqpos_slice": [None],
            "dataset_path": "demo.sources",
            "training_architecture": "batchtopk" if plan.batch_top_k else plan.architecture,
            "training_tokens": facts["tokens"],
            "training_k": plan.k,
        },
    }
    if plan.architecture == "topk":
        cfg |= {"k": plan.k, "rescale_acts_by_decoder_norm": False}
    if plan.transcodes:
        cfg["d_out"] = d_out
        cfg["metadata"] |= {"hook_name_out": plan.hook_out, "hook_head_index_out": None}
    return cfg


def save(trainee: Trainee, folder: Path, *, context: int, facts: dict) -> None:
    """Write cfg.json and sae_weights.safetensors."""
    weights = trainee.folded()
    d_in, d_out = weights["W_enc"].shape[0], weights["W_dec"].shape[1]
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "sae_weights.safetensors")
    cfg = config(trainee.plan, d_in=d_in, d_out=d_out, context=context, facts=facts)
    (folder / "cfg.json").write_text(json.dumps(cfg, indent=2) + "\n")
