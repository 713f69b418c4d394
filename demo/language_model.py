"""Train the demonstration's language model: GPT-2's architecture, by the clock.

The learning rate is a function of the share of `minutes` that has passed, so a slow or busy machine sees less text and
still ends with an annealed model. A run that is killed goes on from its last checkpoint, with the clock where it stood.

Shape suffixes: B windows, T tokens of a window, D width, V vocabulary, N = B·T.
"""

import logging
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch.nn import functional as F
from transformers import GPT2Config, GPT2LMHeadModel

from demo.cores import Cores, one_thread_each
from demo.tokenizer import BOS_ID, Windows

log = logging.getLogger(__name__)
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Precision = Callable[[], AbstractContextManager]


@dataclass(frozen=True)
class Recipe:
    """What decides a training run, besides the text."""

    minutes: float = 50
    layers: int = 4
    width: int = 192
    heads: int = 4
    vocabulary: int = 4096
    context: int = 256
    batch: int = 24
    matrix_rate: float = 2e-3
    rate: float = 3e-3
    warmup: float = 0.02
    weight_decay: float = 0.05
    seed: int = 20
    compile: bool = True
    # On CPU, plain matrix products in bfloat16 were measured faster than fused attention for windows this short.
    attention: str = "eager"


def new_model(recipe: Recipe) -> GPT2LMHeadModel:
    """Return an untrained model of the recipe's shape."""
    torch.manual_seed(recipe.seed)
    config = GPT2Config(
        vocab_size=recipe.vocabulary,
        n_positions=recipe.context,
        n_embd=recipe.width,
        n_layer=recipe.layers,
        n_head=recipe.heads,
        bos_token_id=BOS_ID,
        eos_token_id=BOS_ID,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        # The tanh form that GPT-2 calls gelu_new, as one fused operation.
        activation_function="gelu_pytorch_tanh",
    )
    return GPT2LMHeadModel._from_config(config, attn_implementation=recipe.attention)


def loss_sum(model: GPT2LMHeadModel, input_BT: torch.Tensor, target_BT: torch.Tensor) -> torch.Tensor:
    """Return the summed cross-entropy in nats of every target of the windows."""
    hidden_BTD = model.transformer(input_BT, use_cache=False).last_hidden_state
    logits_NV = model.lm_head(hidden_BTD.flatten(0, 1))
    return F.cross_entropy(logits_NV.float(), target_BT.flatten(), reduction="sum")


def train(
    recipe: Recipe,
    windows: Windows,
    checkpoint: Path,
    *,
    device: torch.device,
    save_every: float = 60.0,
    stop_after: float = math.inf,
) -> tuple[GPT2LMHeadModel, dict]:
    """Train until the recipe's minutes have passed, or `stop_after` more seconds; return the model and the facts."""
    model = new_model(recipe).to(device)
    optimizers = _optimizers(model, recipe)
    facts = {"step": 0, "tokens": 0, "elapsed": 0.0}
    if checkpoint.exists():
        facts = _resume(checkpoint, model, optimizers, device)
    budget = recipe.minutes * 60
    if facts["elapsed"] >= budget:
        return model, facts
    precision = fast_precision(model, windows, device)
    with one_thread_each(device) as cores:
        loss = _fast_loss(model, windows, recipe, precision, cores)
        before, started = facts["elapsed"], time.monotonic()
        saved_at, logged, smooth = started, (facts["tokens"], started), math.nan
        while facts["elapsed"] < budget and facts["elapsed"] - before < stop_after:
            _set_rate(optimizers, facts["elapsed"] / budget, recipe)
            nats = _backward(loss, _tensors(windows, facts["step"], recipe.batch, device), precision, cores)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer in optimizers:
                optimizer.step()
            model.zero_grad(set_to_none=True)
            now = time.monotonic()
            facts["step"] += 1
            facts["tokens"] += recipe.batch * recipe.context
            facts["elapsed"] = before + now - started
            smooth = nats if math.isnan(smooth) else 0.98 * smooth + 0.02 * nats
            if facts["step"] % 50 == 0:
                speed, logged = (facts["tokens"] - logged[0]) / (now - logged[1]), (facts["tokens"], now)
                share = 100 * facts["elapsed"] / budget
                log.info("step %d, %.1f %% of the time, loss %.4f, %.0f tokens/s", facts["step"], share, smooth, speed)
            if now - saved_at > save_every:
                _save(checkpoint, model, optimizers, facts)
                saved_at = now
    _save(checkpoint, model, optimizers, facts)
    return model, facts


def fast_precision(model: GPT2LMHeadModel, windows: Windows, device: torch.device) -> Precision:
    """Return what to compute in: bfloat16 where a trial on this machine finds it faster, else plain float32."""
    candidates = {"float32": nullcontext, "bfloat16": partial(torch.autocast, device.type, dtype=torch.bfloat16)}
    batch, loss = _tensors(windows, 0, 8, device), partial(loss_sum, model)
    with one_thread_each(device) as cores:
        runs = {name: partial(_backward, loss, batch, precision, cores) for name, precision in candidates.items()}
        fastest = _fastest(runs)
    model.zero_grad(set_to_none=True)
    return candidates[fastest]


def _fast_loss(model: GPT2LMHeadModel, windows: Windows, recipe: Recipe, precision: Precision, cores: Cores) -> Loss:
    """Return the loss function, compiled where that works and a trial finds it faster."""
    eager = partial(loss_sum, model)
    if not recipe.compile:
        return eager
    candidates = {"eager": eager, "compiled": torch.compile(eager)}
    batch = _tensors(windows, 0, recipe.batch, model.device)
    runs = {name: partial(_backward, loss, batch, precision, cores) for name, loss in candidates.items()}
    try:
        fastest = _fastest(runs)
    except Exception:  # noqa: BLE001  a missing or failing compiler must not stop a training run
        log.info("not compiled: no working compiler")
        fastest = "eager"
    model.zero_grad(set_to_none=True)
    return candidates[fastest]


def _fastest(runs: dict[str, Callable[[], object]], *, rounds: int = 5) -> str:
    """Return the name of the run with the least seconds in interleaved rounds: a shared machine blurs every mean."""
    seconds = dict.fromkeys(runs, math.inf)
    for _ in range(rounds):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            seconds[name] = min(seconds[name], time.perf_counter() - started)
    log.info("trial: %s", ", ".join(f"{name} {value:.3f} s" for name, value in seconds.items()))
    return min(seconds, key=seconds.get)


def _backward(loss: Loss, batch: tuple[torch.Tensor, torch.Tensor], precision: Precision, cores: Cores) -> float:
    """Add a batch's gradients to the parameters, each core a part of them; return the loss in nats per token."""
    input_BT, target_BT = batch

    def part(rows: tuple[torch.Tensor, torch.Tensor]) -> float:
        with precision():
            share = loss(*rows) / target_BT.numel()
        share.backward()
        return share.item()  # waits for the device, which the trials rely on

    return sum(cores.pool.map(part, zip(input_BT.chunk(cores.count), target_BT.chunk(cores.count), strict=True)))


def _tensors(windows: Windows, step: int, batch: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    input_BT, target_BT = windows.batch(step, batch)
    return torch.from_numpy(input_BT).to(device), torch.from_numpy(target_BT).to(device)


def _optimizers(model: GPT2LMHeadModel, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Return AdamW for embeddings, gains and biases, and Muon for the blocks' matrices.

    After 30 seconds of either, Muon's held-out loss was 5.3 where AdamW's alone was 6.5.
    """
    in_blocks = {name: p for name, p in model.named_parameters() if ".h." in name and p.ndim == 2}
    others = [p for name, p in model.named_parameters() if name not in in_blocks]
    groups = [
        {"params": [p for p in others if p.ndim == 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in others if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizers = [
        torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.95), fused=True),
        torch.optim.Muon(
            list(in_blocks.values()),
            lr=recipe.matrix_rate,
            weight_decay=recipe.weight_decay,
            adjust_lr_fn="match_rms_adamw",
        ),
    ]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return optimizers


def _set_rate(optimizers: list[torch.optim.Optimizer], share: float, recipe: Recipe) -> None:
    """Warm up linearly, then follow a cosine to a fiftieth."""
    rise = min(share / recipe.warmup, 1.0)
    fallen = max(share - recipe.warmup, 0.0) / (1 - recipe.warmup)
    factor = rise * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * fallen)))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * factor


def _save(checkpoint: Path, model: GPT2LMHeadModel, optimizers: list[torch.optim.Optimizer], facts: dict) -> None:
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    unfinished = checkpoint.with_suffix(".partial")
    state = {"model": model.state_dict(), "optimizers": [o.state_dict() for o in optimizers], "facts": facts}
    torch.save(state, unfinished)
    unfinished.replace(checkpoint)


def _resume(
    checkpoint: Path, model: GPT2LMHeadModel, optimizers: list[torch.optim.Optimizer], device: torch.device
) -> dict:
    state = torch.load(checkpoint, map_location=device, weights_only=True)
    model.load_state_dict(state["model"])
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    log.info("going on from step %d", state["facts"]["step"])
    return state["facts"]
