"""Train several dictionaries on one stream of activations, by the clock."""

import logging
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import torch
from torch import nn

from demo.cores import one_thread_each
from demo.dictionaries import Plan, Trainee
from demo.language_model import Precision

log = logging.getLogger(__name__)


def train(
    plans: Iterable[Plan],
    batches: Iterable[dict[str, torch.Tensor]],
    checkpoint: Path,
    *,
    minutes: float,
    precision: Precision,
    rate: float = 1e-3,
    dead_after: int = 200_000,
    seed: int = 20,
    save_every: float = 60.0,
) -> tuple[list[Trainee], dict]:
    """Train every plan on the same batches until the minutes have passed; go on from the checkpoint if there is one.

    Each step is one piece of work for a core per dictionary, and one to fetch the next batch.
    """
    batches = iter(batches)
    batch = next(batches)
    trainees = [
        Trainee(plan, batch[plan.hook_in], batch[plan.hook_out], seed=seed + number, dead_after=dead_after)
        for number, plan in enumerate(plans)
    ]
    optimizers = [torch.optim.Adam(trainee.parameters(), lr=rate, fused=True) for trainee in trainees]
    facts = {"step": 0, "tokens": 0, "elapsed": 0.0}
    x_ND = next(iter(batch.values()))
    if checkpoint.exists():
        facts = _resume(checkpoint, trainees, optimizers, x_ND.device)
    before, started = facts["elapsed"], time.monotonic()
    saved_at, logged = started, (facts["tokens"], started)
    with one_thread_each(x_ND.device) as cores:
        while (share := facts["elapsed"] / (minutes * 60)) < 1:
            coming = cores.pool.submit(next, batches)
            now_rate = rate * min(share / 0.02, 1.0, (1 - share) / 0.4 + 0.01)
            lines = list(cores.pool.map(partial(_step, batch, precision, now_rate), trainees, optimizers))
            batch = coming.result()
            now = time.monotonic()
            facts.update(step=facts["step"] + 1, tokens=facts["tokens"] + len(x_ND), elapsed=before + now - started)
            if facts["step"] % 50 == 0:
                speed, logged = (facts["tokens"] - logged[0]) / (now - logged[1]), (facts["tokens"], now)
                log.info("step %d, %.0f %% of the time, %.0f tokens/s: %s", facts["step"], 100 * share, speed, lines)
            if now - saved_at > save_every:
                _save(checkpoint, trainees, optimizers, facts)
                saved_at = now
    _save(checkpoint, trainees, optimizers, facts)
    return trainees, facts


def _step(
    batch: dict[str, torch.Tensor], precision: Precision, rate: float, trainee: Trainee, optimizer: torch.optim.Adam
) -> str:
    """Take one step with one dictionary and say how it stands."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    with precision():
        loss, facts = trainee.loss(batch[trainee.plan.hook_in], batch[trainee.plan.hook_out])
    loss.backward()
    nn.utils.clip_grad_norm_(trainee.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    trainee.normalize()
    return f"{trainee.plan.source} fvu {facts['fvu']:.3f} silent {facts['silent']:.3f}"


def _save(checkpoint: Path, trainees: list[Trainee], optimizers: list[torch.optim.Adam], facts: dict) -> None:
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    unfinished = checkpoint.with_suffix(".partial")
    state = {
        "trainees": [trainee.state_dict() for trainee in trainees],
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "facts": facts,
    }
    torch.save(state, unfinished)
    unfinished.replace(checkpoint)


def _resume(
    checkpoint: Path, trainees: list[Trainee], optimizers: list[torch.optim.Adam], device: torch.device
) -> dict:
    state = torch.load(checkpoint, map_location=device, weights_only=True)
    for trainee, saved in zip(trainees, state["trainees"], strict=True):
        trainee.load_state_dict(saved)
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    log.info("going on from step %d", state["facts"]["step"])
    return state["facts"]
