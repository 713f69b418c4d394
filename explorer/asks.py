"""What pages and the API ask of the engine: check, submit, wait, and put names and labels on the answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.urls import reverse

from explorer import live
from explorer.live_queries import EditQuery, PromptQuery, SteerQuery, check_text
from explorer.live_values import (
    LiveProvenance,
    PageError,
    PromptFeature,
    PromptResult,
    PromptToken,
    SteeredToken,
    SteerFeature,
    SteerJob,
    SteerResult,
    SteerRow,
    TestedText,
    TokenValue,
)
from explorer.ramps import activation_level
from features import selectors
from features.results import FeatureRow, SourceCard
from features.selectors.suggestions import no_weights
from inference.errors import FacetError, InvalidInput, NotFound

PROMPT_SECONDS = 60.0
GENERATION_SECONDS = 240.0
ROW_NAMES = ("Default", "Steered")


class NotBuilt(InvalidInput):
    """Steering strengths and shares count a feature's maximum, which only a build knows."""

    code = "not-built"


class WithoutDirections(InvalidInput):
    """Steering with features that write something else for every input, or nothing."""

    code = "without-directions"


def prompt_features(query: PromptQuery) -> PromptResult:
    """Return the ranked features of a text.

    Raises:
        FacetError: what is wrong with the text, the model, the sources or the engine.
    """
    text = check_text(query.text)
    chosen = chosen_sources(query.model, query.sources)
    rank = ranking(query, chosen)
    chat = as_chat(query, chosen)
    if rank == "share":
        for source in chosen:
            _require_build(source)
    job = live.submit(
        "prompt_features",
        {
            "model": query.model,
            "sources": [source.source for source in chosen],
            "text": text,
            "rank": rank,
            "density": query.density,
            "positions": query.positions,
            "top": query.top,
            "truncate": query.truncate,
            "chat": chat,
        },
    )
    answer = live.wait(job, timeout=PROMPT_SECONDS)
    selected = frozenset(query.positions or ())
    tokens = live_tokens(answer["tokens"], selected, answer["own"])
    rows = feature_rows(chosen, [(feature["source"], feature["index"]) for feature in answer["features"]])
    by_source = {card.source: card for card in chosen}
    return PromptResult(
        text=answer["tokens"]["text"],
        tokens=tokens,
        features=tuple(
            _prompt_feature(by_source[feature["source"]], rank, feature, tokens, rows, selected)
            for rank, feature in enumerate(answer["features"], start=1)
        ),
        n_firing=answer["n_firing"],
        n_hidden=answer["n_hidden"],
        ignores_bos=answer["tokens"]["has_bos"],
        chat=chat,
        truncated_from=answer["truncated_from"],
        provenance=live_provenance(answer["provenance"]),
    )


def test_text(*, model: str, source: str, index: int, text: str, truncate: bool = False) -> TestedText:
    """Return one feature's activations on a text."""
    return test_texts(model=model, source=source, indices=[index], text=text, truncate=truncate)[0]


def test_texts(
    *, model: str, source: str, indices: Sequence[int], text: str, truncate: bool = False
) -> tuple[TestedText, ...]:
    """Return the activations of several features of one dictionary on a text, from one pass of the model."""
    card = selectors.source_card(model, source)
    require_weights(card)
    for index in indices:
        check_index(card, index)
    payload = {"model": model, "source": source, "indices": list(indices), "text": check_text(text)}
    answer = live.wait(live.submit("feature_activations", payload | {"truncate": truncate}), timeout=PROMPT_SECONDS)
    tokens = live_tokens(answer["tokens"], frozenset())
    return tuple(
        tested_text(card, index, tokens, values=values, maximum=maximum, answer=answer)
        for index, values, maximum in zip(indices, answer["values"], answer["maxima"], strict=True)
    )


def tested_text(
    card: SourceCard,
    index: int,
    tokens: tuple[PromptToken, ...],
    *,
    values: Sequence[float],
    maximum: float | None,
    answer: dict[str, Any],
) -> TestedText:
    """Return one feature's activations as a text shows them."""
    skipped = int(answer["tokens"]["has_bos"])
    peak = max(values[skipped:], default=0.0)
    scale = maximum or peak
    return TestedText(
        model=card.model,
        source=card.source,
        index=index,
        text=answer["tokens"]["text"],
        tokens=tokens,
        levels=tuple(0 if token.is_bos else activation_level(values[token.position], scale) for token in tokens),
        values=tuple(values),
        peak=peak,
        peak_position=values.index(peak, skipped) if peak > 0 else None,
        share=peak / maximum if maximum else None,
        maximum=maximum,
        truncated_from=answer["truncated_from"],
        provenance=live_provenance(answer["provenance"]),
    )


def ranking(query: PromptQuery, chosen: Sequence[SourceCard]) -> str:
    """Return what the query ranks by: shares of maxima compare dictionaries, where all are built."""
    return query.rank or ("share" if all(source.built_at for source in chosen) else "max")


def as_chat(query: PromptQuery, chosen: Sequence[SourceCard]) -> bool:
    """Return whether the text is a turn of a conversation: as asked, else as the dictionaries were trained."""
    if query.chat is not None:
        return query.chat
    return any(source.origin.has_chat and source.origin.can_chat for source in chosen if source.origin)


def start_steering(query: SteerQuery) -> SteerJob:
    """Begin a generation with a default and a steered row, and return where its events are."""
    text = check_text(query.text)
    if not query.edits:
        raise InvalidInput("The recipe has no feature to steer with.", "Add one, as source/index@strength.")
    steer_features(query)
    job = live.submit(
        "generate",
        {
            "model": query.model,
            "text": text,
            "edits": [{"source": edit.source, "index": edit.index, "strength": edit.strength} for edit in query.edits],
            "n_tokens": query.n_tokens,
            "temperature": query.temperature,
            "top_p": query.top_p,
            "seed": query.seed,
            "truncate": query.truncate,
        },
    )
    return SteerJob(
        job_id=job,
        events_url=reverse("live_events", args=[job]),
        cancel_url=reverse("live_cancel", args=[job]),
        prompt=text,
        row_names=ROW_NAMES,
    )


def steering_result(job: SteerJob) -> SteerResult:
    """Wait for a generation and return its texts."""
    answer = live.wait(job.job_id, timeout=GENERATION_SECONDS)
    default = [token["id"] for token in answer["rows"][0]["tokens"]]
    rows = []
    for number, row in enumerate(answer["rows"]):
        tokens = tuple(
            SteeredToken(
                text=token["text"],
                logprob=token["logprob"],
                differs=place >= len(default) or default[place] != token["id"],
            )
            for place, token in enumerate(row["tokens"])
        )
        rows.append(SteerRow(row=number, name=ROW_NAMES[number], text=row["text"], tokens=tokens))
    return SteerResult(
        prompt=answer["tokens"]["text"],
        rows=tuple(rows),
        first_difference=answer["first_difference"],
        stopped=answer["stopped"],
        provenance=live_provenance(answer["provenance"]),
    )


def steer_features(query: SteerQuery) -> tuple[SteerFeature, ...]:
    """Return the recipe's features with labels and maxima.

    Raises:
        NotFound: for an unknown model, source or index.
        NotBuilt: where the maximum, the unit of strengths, is not known.
    """
    cards = {edit.source: selectors.source_card(query.model, edit.source) for edit in query.edits}
    for edit in query.edits:
        check_index(cards[edit.source], edit.index)
        _require_directions(cards[edit.source])
        _require_build(cards[edit.source])
    rows = feature_rows(tuple(cards.values()), [(edit.source, edit.index) for edit in query.edits])
    return tuple(_steer_feature(query.model, edit, cards[edit.source], rows) for edit in query.edits)


def chosen_sources(model: str, sources: Sequence[str]) -> tuple[SourceCard, ...]:
    """Return the named sources of a model, or all of them where none is named."""
    cards = selectors.model_page(model).sources
    if not cards:
        raise NotFound(f"The model {model} has no dictionaries.", "Add one with `python manage.py add_dictionary`.")
    known = {card.source: card for card in cards}
    missing = [source for source in sources if source not in known]
    if missing:
        raise NotFound(
            f"The model {model} has no source {missing[0][:80]!r}.",
            f"It has: {', '.join(known)}.",
            suggestions=[card.url for card in cards],
        )
    runnable = tuple(card for card in cards if card.has_weights)
    for card in [known[source] for source in sources] if sources or runnable else cards[:1]:
        require_weights(card)
    return tuple(known[source] for source in sources) or runnable


def require_weights(card: SourceCard) -> None:
    """Raise NoWeights for a dictionary that is known from imported files alone."""
    if not card.has_weights:
        raise no_weights(card.model, card.source)


def feature_rows(
    cards: Sequence[SourceCard], addresses: Sequence[tuple[str, int]]
) -> dict[tuple[str, int], FeatureRow]:
    """Return the list rows of one model by (source, index), zeros where not built."""
    ids = {card.source: card.id for card in cards}
    rows = selectors.feature_rows([(ids[source], index) for source, index in addresses])
    return {(row.source, row.index): row for row in rows.values()}


def page_error(error: FacetError) -> PageError:
    """Return the error as pages show it in place."""
    return PageError(
        code=error.code,
        cause=error.cause,
        remedy=error.remedy,
        details=error.details,
        retry=error.status in (503, 504),
        offer_cut=error.code == "prompt-too-long",
    )


def _steer_feature(
    model: str, edit: EditQuery, card: SourceCard, rows: dict[tuple[str, int], FeatureRow]
) -> SteerFeature:
    row = rows.get((edit.source, edit.index))
    return SteerFeature(
        model=model,
        source=edit.source,
        index=edit.index,
        strength=edit.strength,
        label=row.label if row else "",
        maximum=row.maximum if row and row.maximum > 0 else None,
        hook_point=card.hook_point_out,
    )


def _prompt_feature(
    card: SourceCard,
    rank: int,
    feature: dict[str, Any],
    tokens: tuple[PromptToken, ...],
    rows: dict[tuple[str, int], FeatureRow],
    selected: frozenset[int],
) -> PromptFeature:
    """Return a feature as pages show it; where positions are chosen, its peak is the largest among them."""
    row = rows.get((feature["source"], feature["index"]))
    maximum = row.maximum if row and row.maximum > 0 else None
    peak, position = feature["peak"], feature["peak_position"]
    scale = maximum or peak
    among = [
        (value, place)
        for place, value in zip(feature["positions"], feature["values"], strict=True)
        if place in selected and not tokens[place].is_bos
    ]
    if among:
        peak, position = max(among, key=lambda pair: (pair[0], -pair[1]))
    return PromptFeature(
        rank=rank,
        model=card.model,
        source=card.source,
        index=feature["index"],
        label=row.label if row else "",
        score=feature["score"],
        peak=peak,
        peak_position=position,
        peak_token=tokens[position].name,
        mean=feature["mean"],
        share=peak / maximum if maximum else None,
        maximum=maximum,
        density=row.density if row and maximum else None,
        can_steer=card.has_directions,
        has_sources=card.has_sources,
        values=tuple(
            TokenValue(position=place, value=value, level=activation_level(value, scale))
            for place, value in zip(feature["positions"], feature["values"], strict=True)
        ),
    )


def live_tokens(
    tokens: dict[str, Any], selected: frozenset[int], own: Sequence[int] | None = None
) -> tuple[PromptToken, ...]:
    """Return the tokens for display; the tokens of one multi-byte character share its span, and the first shows it.

    `own` are the first and last character of what the user wrote; tokens outside are the chat template's.
    """
    first, last = own or (0, len(tokens["text"]))
    shown: list[PromptToken] = []
    reached = 0
    for position, (token_id, start, end, name) in enumerate(
        zip(tokens["ids"], tokens["starts"], tokens["ends"], tokens["names"], strict=True)
    ):
        is_bos = position == 0 and tokens["has_bos"]
        shown.append(
            PromptToken(
                position=position,
                token_id=token_id,
                text=tokens["text"][max(start, reached) : end],
                name=name,
                is_bos=is_bos,
                selected=position in selected,
                is_template=not is_bos and (end <= first or start >= last),
            )
        )
        reached = max(reached, end)
    return tuple(shown)


def live_provenance(data: dict[str, Any]) -> LiveProvenance:
    return LiveProvenance(
        model=data["model"],
        revision=data["revision"],
        dictionaries=tuple((source, sha256) for source, sha256 in data["dictionaries"]),
        dtype=data["dtype"],
        device=data["device"],
        worker=data["worker"],
        seconds=data["seconds"],
    )


def check_index(card: SourceCard, index: int) -> None:
    if not 0 <= index < card.n_features:
        raise NotFound(
            f"{card.model}/{card.source} has no feature {index}.",
            f"Its features are 0 to {card.n_features - 1}.",
            suggestions=[card.url],
        )


def _require_directions(card: SourceCard) -> None:
    if not card.has_directions:
        raise WithoutDirections(
            f"The features of {card.model}/{card.source} write no direction of their own ({card.architecture}).",
            "Steer with features of another dictionary; prompts and examples work with these.",
            source=card.source,
        )


def _require_build(card: SourceCard) -> None:
    if card.built_at is None:
        raise NotBuilt(
            f"{card.model}/{card.source} is not built, so the maxima of its features are not known.",
            f"Build it first: `python manage.py build {card.model}/{card.source}`.",
            source=card.source,
        )
