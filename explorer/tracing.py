"""Where features of attention's outputs come from: asked of the engine, and named for pages and the API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from explorer import asks, live
from explorer.live_queries import check_text
from explorer.live_values import PromptToken, TestedText, TracedHead, TracedText, TracedToken
from features import selectors
from features.results import SourceCard
from inference.attention_outputs import untraceable
from inference.errors import FacetError, InvalidInput

MAX_DESTINATIONS = 64


class WithoutSources(InvalidInput):
    """A dictionary whose features cannot be traced through attention; the cause says why."""

    code = "without-attribution"


def trace(
    *,
    model: str,
    source: str,
    index: int,
    text: str,
    positions: Sequence[int] | None = None,
    truncate: bool = False,
    chat: bool = False,
) -> TracedText:
    """Return what the tokens of a text add to a feature: at `positions`, or at the tokens where it fires most."""
    card = selectors.source_card(model, source)
    asks.require_weights(card)
    asks.check_index(card, index)
    if why := untraceable(architecture=card.architecture, hook_in=card.hook_point):
        raise WithoutSources(
            f"Features of {card.model}/{card.source} cannot be traced to source tokens. {why}",
            "Trace features of a dictionary of attention's outputs (attn.hook_z, hook_attn_out).",
            source=card.source,
        )
    answer = _ask(card, index, text, positions=positions, truncate=truncate, chat=chat)
    return _traced(card, index, asks.live_tokens(answer["tokens"], frozenset(), answer["own"]), answer)


def test_and_trace(
    card: SourceCard, *, index: int, text: str, truncate: bool = False
) -> tuple[TestedText, TracedText | None]:
    """Return one feature's activations on a text and, where it can be traced, their sources, from one pass."""
    if card.has_sources:
        asks.check_index(card, index)
        try:
            answer = _ask(card, index, text, truncate=truncate)
        except FacetError as error:
            if error.code != WithoutSources.code:
                raise
        else:
            tokens = asks.live_tokens(answer["tokens"], frozenset())
            tested = asks.tested_text(
                card, index, tokens, values=answer["values"], maximum=answer["maximum"], answer=answer
            )
            return tested, _traced(card, index, tokens, answer)
    tested = asks.test_text(model=card.model, source=card.source, index=index, text=text, truncate=truncate)
    return tested, None


def _ask(
    card: SourceCard,
    index: int,
    text: str,
    *,
    positions: Sequence[int] | None = None,
    truncate: bool = False,
    chat: bool = False,
) -> dict[str, Any]:
    payload = {
        "model": card.model,
        "source": card.source,
        "index": index,
        "text": check_text(text),
        "positions": None if positions is None else list(positions),
        "truncate": truncate,
        "chat": chat,
    }
    return live.wait(live.submit("source_attributions", payload), timeout=asks.PROMPT_SECONDS)


def _traced(card: SourceCard, index: int, tokens: tuple[PromptToken, ...], answer: dict[str, Any]) -> TracedText:
    return TracedText(
        model=card.model,
        source=card.source,
        index=index,
        text=answer["tokens"]["text"],
        tokens=tokens,
        traced=tuple(_token(attribution, tokens) for attribution in answer["attributions"]),
        n_firing=answer["n_firing"],
        n_heads=answer["n_heads"],
        frozen_norm=answer["frozen_norm"],
        truncated_from=answer["truncated_from"],
        provenance=asks.live_provenance(answer["provenance"]),
    )


def _token(attribution: dict[str, Any], tokens: Sequence[PromptToken]) -> TracedToken:
    return TracedToken(
        position=attribution["destination"],
        token=tokens[attribution["destination"]].name,
        activation=attribution["activation"],
        pre_activation=attribution["pre_activation"],
        sources=tuple(attribution["sources"]),
        total=attribution["total"],
        bias=attribution["bias"],
        remainder=attribution["remainder"],
        heads=tuple(TracedHead(**head, source_token=tokens[head["source"]].name) for head in attribution["heads"]),
    )
