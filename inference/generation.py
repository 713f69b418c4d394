"""Generation: default and steered rows of one batch over one key-value cache, sampled with common random numbers.

Sampling adds Gumbel noise to the logits and takes the largest (https://arxiv.org/abs/1611.01144). The noise of a step
is drawn once, on the CPU, from the seed, and shared by all rows: rows differ by their edits and by nothing else, an
edit of strength 0 repeats the default row, and a seed gives the same text on every device up to rounding.

Shape suffixes: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from inference.activations import spliced
from inference.dictionaries.dictionary import Dictionary
from inference.errors import InvalidInput
from inference.language_models import LanguageModel, PromptTooLong
from inference.steering import Variant, hooks_for
from inference.text import TextStream
from inference.threads import suited_to
from inference.values import GeneratedToken, Tokens


class SteeringDiverged(InvalidInput):
    """Edits so strong that the model's output is no longer finite."""

    code = "steering-diverged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How the next token is chosen; temperature 0 takes the most probable."""

    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= 10:
            raise InvalidInput(f"The temperature is {self.temperature}.", "Choose one from 0 to 10.")
        if not 0 < self.top_p <= 1:
            raise InvalidInput(f"top_p is {self.top_p}.", "Choose one above 0 and at most 1.")
        if not 0 <= self.seed < 2**63:
            raise InvalidInput(f"The seed is {self.seed}.", "Choose one from 0 to 2^63 - 1.")


def generate(
    model: LanguageModel,
    tokens: Tokens,
    *,
    n_tokens: int,
    dictionaries: Mapping[str, Dictionary] | None = None,
    variants: Sequence[Variant] = ((),),
    temperature: float = 1.0,
    top_p: float = 1.0,
    seed: int = 0,
    default_logprobs: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[GeneratedToken]:
    """Continue the prompt once per variant and yield every token as it is sampled, rows in turn.

    A variant is the edits of one row; an empty one is the default. A row ends after `n_tokens`, at an end-of-sequence
    token, or when the context is full. `default_logprobs` also reports each token's log-probability under the
    unsteered model that reads the same row; its rows are run beside the steered ones and about double the work.
    `should_stop` is asked before every step. Raises, when the first token is asked for, ModelWithoutHead, PromptTooLong
    where none fits, and what `steering.hooks_for` raises; SteeringDiverged at any step.
    """
    model.check_causal()
    room = _room(model, tokens, n_tokens)
    # A row without edits is its own default.
    watched = [row for row, edits in enumerate(variants) if default_logprobs and edits]
    owners = [*range(len(variants)), *watched]
    edits = [*variants, *(() for _ in watched)]
    stepper = _Stepper(model, tokens, dictionaries or {}, edits)
    sampler = _Sampler(Sampling(temperature=temperature, top_p=top_p, seed=seed), model.d_vocab)
    streams = [TextStream(model.token_bytes) for _ in variants]
    running = set(range(len(variants)))
    ids_bt = torch.tensor([tokens.ids] * len(edits), device=model.device)
    for step in range(room):
        if should_stop():
            return
        logits_bv = stepper.step(ids_bt)
        ids_b = sampler.sample(logits_bv[: len(variants)])[torch.tensor(owners)]
        logprobs_b = logits_bv.log_softmax(-1).gather(1, ids_b.to(logits_bv.device)[:, None]).squeeze(1).tolist()
        defaults = dict(zip(watched, logprobs_b[len(variants) :], strict=True))
        for row in sorted(running):
            token_id = int(ids_b[row])
            finish = _finish(token_id in model.eos_ids, step + 1, room, n_tokens)
            yield GeneratedToken(
                row=row,
                position=len(tokens) + step,
                token_id=token_id,
                text_piece=streams[row].push(token_id, final=bool(finish)),
                logprob=logprobs_b[row],
                default_logprob=defaults.get(row, logprobs_b[row]) if default_logprobs else None,
                finish=finish,
            )
            if finish:
                running.remove(row)
        if not running:
            return
        ids_bt = ids_b.to(model.device)[:, None]


class _Stepper:
    """Runs the steered rows over their key-value cache, hooked only while the model runs."""

    def __init__(
        self, model: LanguageModel, tokens: Tokens, dictionaries: Mapping[str, Dictionary], edits: Sequence[Variant]
    ) -> None:
        self._model = model
        self._cache = None
        self._prompt_hooks = hooks_for(dictionaries, edits, n_untouched=tokens.n_special)
        self._token_hooks = hooks_for(dictionaries, edits, n_untouched=0)

    @torch.inference_mode()
    def step(self, ids_bt: Tensor) -> Tensor:
        """Return logits_bv behind the last token."""
        hooks = self._prompt_hooks if self._cache is None else self._token_hooks
        n_tokens, n_bytes = ids_bt.numel(), self._model.n_bytes
        threads = suited_to(n_weight_bytes=n_bytes, n_tokens=n_tokens, device=self._model.device)
        with threads, spliced(self._model, hooks):
            output = self._model.module(input_ids=ids_bt, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
        self._cache = output.past_key_values
        logits_bv = output.logits[:, -1].float()
        if not logits_bv.isfinite().all():
            raise SteeringDiverged("The model's output is no longer finite.", "Steer with less strength.")
        return logits_bv


class _Sampler:
    """Chooses tokens with noise that all rows of a step share."""

    def __init__(self, sampling: Sampling, d_vocab: int) -> None:
        self._sampling = sampling
        self._d_vocab = d_vocab
        self._generator = torch.Generator().manual_seed(sampling.seed)

    def sample(self, logits_bv: Tensor) -> Tensor:
        """Return ids_b on the CPU."""
        if self._sampling.temperature == 0:
            return logits_bv.argmax(-1).cpu()
        noise_v = -torch.empty(self._d_vocab).exponential_(generator=self._generator).log()
        scores_bv = _nucleus(logits_bv / self._sampling.temperature, self._sampling.top_p)
        return (scores_bv.cpu() + noise_v).argmax(-1)


def _nucleus(scores_bv: Tensor, top_p: float) -> Tensor:
    """Rule out all but the most probable tokens that reach `top_p` together (https://arxiv.org/abs/1904.09751)."""
    if top_p >= 1:
        return scores_bv
    sorted_bv, order_bv = scores_bv.sort(descending=True)
    before_bv = sorted_bv.softmax(-1).cumsum(-1) - sorted_bv.softmax(-1)
    kept_bv = sorted_bv.masked_fill(before_bv >= top_p, -torch.inf)
    return torch.empty_like(scores_bv).scatter_(1, order_bv, kept_bv)


def _room(model: LanguageModel, tokens: Tokens, n_tokens: int) -> int:
    """Return how many tokens can follow the prompt, at most as many as asked for."""
    if len(tokens) >= model.context_size:
        raise PromptTooLong(
            f"The prompt has {len(tokens)} tokens and fills the context of {model.context_size}.",
            "Shorten it to leave room for new text.",
            limit=model.context_size - 1,
            n=len(tokens),
            cut_at=tokens.ends[model.context_size - 2],
        )
    return min(n_tokens, model.context_size - len(tokens))


def _finish(is_eos: bool, n_done: int, room: int, n_tokens: int) -> str:
    if is_eos:
        return "eos"
    if n_done < room:
        return ""
    return "length" if room == n_tokens else "context"
