"""Train several dictionaries on one stream of activations, by the clock."""

import logging
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from torch import nn

from demo.dictionaries import Plan, Trainee

log = logging.getLogger(__name__)


def train(
    plans: Iterable[Plan],
    batches: Iterable[dict[str, torch.Tensor]],
    checkpoint: Path,
    *,
    minutes: float,
    precision: AbstractContextManager,
    rate: float = 1e-3,
    dead_after: int = 200_000,
    seed: int = 20,
    save_every: float = 60.0,
) -> tuple[list[Trainee], dict]:
    """Train every plan on the same batches until the minutes have passed; go on from the checkpoint if there is one."""
    batches = iter(batches)
    first = next(batches)
    trainees = [
        Trainee(plan, first[plan.hook_in], first[plan.hook_out], seed=seed + number, dead_after=dead_after)
        for number, plan in enumerate(plans)
    ]
    optimizer = torch.optim.Adam([p for trainee in trainees for p in trainee.parameters()], lr=rate, fused=True)
    facts = {"step": 0, "tokens": 0, "elapsed": 0.0}
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=first[trainees[0].plan.hook_in].device, weights_only=True)
        for trainee, saved in zip(trainees, state["trainees"], strict=True):
            trainee.load_state_dict(saved)
        optimizer.load_state_dict(state["optimizer"])
        facts = state["facts"]
        log.info("going on from step %d", facts["step"])
    before, started = facts["elapsed"], time.monotonic()
    saved_at, logged = started, (facts["tokens"], started)
    while (share := facts["elapsed"] / (minutes * 60)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = rate * min(share / 0.02, 1.0, (1 - share) / 0.4 + 0.01)
        batch = next(batches)
        lines = []
        for trainee in trainees:
            with precision:
                loss, line = trainee.loss(batch[trainee.plan.hook_in], batch[trainee.plan.hook_out])
            loss.backward()
            lines.append(line)
        for trainee in trainees:
            nn.utils.clip_grad_norm_(trainee.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        for trainee in trainees:
            trainee.normalize()
        now = time.monotonic()
        count = len(batch[trainees[0].plan.hook_in])
        facts.update(step=facts["step"] + 1, tokens=facts["tokens"] + count, elapsed=before + now - started)
        if facts["step"] % 50 == 0:
            speed, logged = (facts["tokens"] - logged[0]) / (now - logged[1]), (facts["tokens"], now)
            parts = [
                f"{trainee.plan.source} fvu {line['fvu']:.3f} silent {line['silent']:.3f}"
                for trainee, line in zip(trainees, lines, strict=True)
            ]
            log.info("step %d, %.0f tokens/s: %s", facts["step"], speed, "; ".join(parts))
        if now - saved_at > save_every:
            _save(checkpoint, trainees, optimizer, facts)
            saved_at = now
    _save(checkpoint, trainees, optimizer, facts)
    return trainees, facts


def _save(checkpoint: Path, trainees: list[Trainee], optimizer: torch.optim.Optimizer, facts: dict) -> None:
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    unfinished = checkpoint.with_suffix(".partial")
    state = {"trainees": [t.state_dict() for t in trainees], "optimizer": optimizer.state_dict(), "facts": facts}
    torch.save(state, unfinished)
    unfinished.replace(checkpoint)
