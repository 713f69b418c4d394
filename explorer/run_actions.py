"""What pages and the API do with runs: start, stop, take up, and follow one as it changes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

import structlog
from asgiref.sync import sync_to_async
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db import InterfaceError, OperationalError, transaction

from explorer import asks, live
from explorer.live.events import KEEP_ALIVE_SECONDS
from features import selectors, services
from features.run_results import RunCard

POLL_SECONDS = 1.0
log = structlog.get_logger(__name__)
ACTIVE = frozenset({"queued", "running"})


def create_build(
    *,
    model: str,
    sources: Sequence[str],
    corpus: str,
    user: AbstractBaseUser,
    n_tokens: int | None = None,
    context_size: int | None = None,
) -> RunCard:
    """Store a build of some or all sources of a model, and send it to the batch workers once it is committed."""
    cards = asks.chosen_sources(model, sources)
    size = {} if n_tokens is None else {"n_tokens": n_tokens}
    with transaction.atomic():
        run_id = services.runs.create_build(
            dictionaries=[card.id for card in cards], corpus=corpus, user=user, context_size=context_size, **size
        )
        transaction.on_commit(lambda: send(run_id))
    return selectors.run(run_id)


def create_evaluation(
    *,
    model: str,
    sources: Sequence[str],
    corpus: str,
    user: AbstractBaseUser,
    n_tokens: int | None = None,
    split: str = "test",
    context_size: int | None = None,
) -> RunCard:
    """Store a measurement of some or all sources of a model, and send it to the batch workers."""
    cards = asks.chosen_sources(model, sources)
    with transaction.atomic():
        run_id = services.evaluations.create(
            dictionaries=[card.id for card in cards],
            corpus=corpus,
            n_tokens=services.evaluations.N_TOKENS if n_tokens is None else n_tokens,
            split=split,
            context_size=context_size,
            user=user,
        )
        transaction.on_commit(lambda: send(run_id))
    return selectors.run(run_id)


def cancel_run(run_id: int, *, user: AbstractBaseUser | AnonymousUser) -> RunCard:
    """Ask the worker to stop; what it finished stays for a later resume. For who started the run, and staff."""
    services.runs.cancel(run=run_id, user=user)
    return selectors.run(run_id)


def resume_run(run_id: int, *, user: AbstractBaseUser | AnonymousUser) -> RunCard:
    """Queue a run again that failed, was cancelled, or lost its worker. For who started the run, and staff."""
    with transaction.atomic():
        services.runs.resume(run=run_id, user=user)
        transaction.on_commit(lambda: send(run_id))
    return selectors.run(run_id)


def _look(run_id: int) -> RunCard:
    try:
        return selectors.run(run_id)
    finally:
        # A stream may last for hours: it holds no connection between two looks, and never a broken one.
        live.release_database()


def send(run_id: int) -> None:
    """Send a stored run to the batch workers; while Valkey is away an idle worker finds it by itself."""
    try:
        live.enqueue_run(run_id)
    except live.ValkeyGone as error:
        # The run is stored, and an idle batch worker sends what waits.
        log.warning("run not sent", run=run_id, cause=error.cause)


async def states(run_id: int) -> AsyncIterator[RunCard | None]:
    """Yield the run whenever it changed until it is over; None now and then as a sign of life.

    While Postgres is away the last state stands, and looking goes on.
    """
    seen: RunCard | None = None
    card: RunCard | None
    seen_at = time.monotonic()
    while True:
        try:
            card = await sync_to_async(_look)(run_id)
        except (OperationalError, InterfaceError):
            card = seen
        if card is not None and card != seen:
            seen, seen_at = card, time.monotonic()
            yield card
            if card.state not in ACTIVE:
                return
        elif time.monotonic() - seen_at > KEEP_ALIVE_SECONDS:
            seen_at = time.monotonic()
            yield None
        await asyncio.sleep(POLL_SECONDS)
