"""Runs: long jobs that are created, started, watched, cancelled and resumed.

    queued -> running -> done | failed | cancelled          failed | cancelled -> queued (resume)

Who makes or resumes a run also sends it to a worker, once the transaction is committed. A worker holds its run by a
lock that ends with its process (inference.tasks), so `start` may take up a run that is marked as running.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.utils import timezone

from features.models import Corpus, Dictionary, Run, RunLine
from features.selectors.suggestions import no_weights
from features.services.checks import signed_in
from features.services.corpora import chosen_corpus
from features.services.shards import forgive
from features.words import storable, storable_value
from inference.errors import Conflict, FacetError, InvalidInput, NotAllowed, NotFound

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

BUILD_PHASES = ("read", "encode", "reduce", "store")
ABOUT_DICTIONARIES = frozenset({Run.Kind.BUILD, Run.Kind.EVALUATION})
# At most one of these at a time: both fill the partitions of a dictionary.
WRITE_DASHBOARDS = frozenset({Run.Kind.BUILD, Run.Kind.IMPORT})
UNDER_WAY = {
    Run.Kind.BUILD: "built",
    Run.Kind.EVALUATION: "evaluated",
    Run.Kind.ADDITION: "added",
    Run.Kind.IMPORT: "imported",
    Run.Kind.EXPORT: "exported",
}
N_TOKENS = 1_000_000
CONTEXT_SIZE = 128
MAX_TOKENS = 1_000_000_000


@transaction.atomic
def create_build(
    *,
    dictionaries: Sequence[int],
    corpus: str = "",
    user: AbstractBaseUser | None = None,
    n_tokens: int = N_TOKENS,
    context_size: int | None = None,
    shard_tokens: int | None = None,
    memory: int | None = None,
) -> int:
    """Queue a build of dictionaries (ids) of one model over a corpus (its slug); return the run's id.

    Without a corpus, the only one there is serves. `shard_tokens` is how much a killed build loses at most, `memory`
    the bytes that each worker may take; both have defaults. Raises
    InvalidInput, NotFound, and Conflict where one of the dictionaries is being built already.
    """
    rows = list(
        Dictionary.objects.select_for_update(of=("self",))
        .filter(id__in=dictionaries)
        .select_related("model")
        .order_by("id")
    )
    if not rows or len(rows) < len(set(dictionaries)):
        raise NotFound("A dictionary to build is not there.", "Choose dictionaries that exist.", ids=list(dictionaries))
    for row in rows:
        if not row.path:
            raise no_weights(row.model.slug, row.source)
    model = rows[0].model
    if any(row.model_id != model.pk for row in rows):
        raise InvalidInput("The dictionaries belong to several models.", "Start one build for each model.")
    if memory is not None and memory <= 0:
        raise InvalidInput("A build needs some memory.", "Give a number of gigabytes above zero.", memory=memory)
    check_tokens(n_tokens)
    if context_size is None:
        context_size = min(CONTEXT_SIZE, model.context_size)
    check_context_size(context_size, model.context_size)
    chosen = chosen_corpus(corpus)
    sources = ", ".join(row.source for row in rows)
    return create(
        kind=Run.Kind.BUILD,
        title=f"Build {model.slug}: {sources}",
        phases=BUILD_PHASES,
        params={
            "n_tokens": n_tokens,
            "context_size": context_size,
            "shard_tokens": shard_tokens,
            "memory": memory,
        },
        corpus=chosen,
        dictionaries=[row.id for row in rows],
        user=user,
    )


def check_tokens(n_tokens: int) -> None:
    """Raise InvalidInput unless a build can read so many tokens."""
    if not 1 <= n_tokens <= MAX_TOKENS:
        raise InvalidInput(f"A build reads 1 to {MAX_TOKENS:,} tokens.", "Give a number between them.")


def check_context_size(context_size: int, most: int) -> None:
    """Raise InvalidInput unless a model that reads `most` tokens at once can read contexts of this size."""
    if not 2 <= context_size <= most:
        raise InvalidInput(
            f"A context of {context_size:,} tokens cannot be read: this model takes 2 to {most:,}, BOS included.",
            "Give a number between them, or none for the usual one.",
            context_size=context_size,
        )


@transaction.atomic
def create(
    *,
    kind: str,
    title: str,
    phases: Sequence[str],
    params: Mapping[str, Any],
    corpus: Corpus | None = None,
    dictionaries: Sequence[int] = (),
    user: AbstractBaseUser | None = None,
) -> int:
    """Queue a run of any kind; return its id. Who asks has checked `params`, and has locked the dictionaries (ids).

    Raises Conflict where a run of the same kind is at work on one of the dictionaries already.
    """
    _refuse_second(kind, dictionaries)
    run = Run.objects.create(
        kind=kind,
        title=storable(title)[:300],
        corpus=corpus,
        params=storable_value(dict(params)),
        phases=list(phases),
        created_by=user if user is not None and user.is_authenticated else None,
    )
    run.dictionaries.set(dictionaries)
    return run.pk


@transaction.atomic
def claim(*, run: int, dictionary: int) -> None:
    """Let a run that found out what it is about work on a dictionary (id); raise Conflict where another run does."""
    row = _locked(run)
    list(Dictionary.objects.select_for_update().filter(id=dictionary))
    if not row.dictionaries.filter(id=dictionary).exists():
        _refuse_second(row.kind, [dictionary])
        row.dictionaries.add(dictionary)


@transaction.atomic
def start(*, run: int) -> bool:
    """Mark a run as running for the process that holds it; False if it is over and there is nothing to do."""
    row = _locked(run)
    if row.state not in Run.ACTIVE:
        return False
    now = timezone.now()
    row.state, row.heartbeat_at, row.started_at = Run.State.RUNNING, now, row.started_at or now
    row.finished_at, row.error, row.remedy = None, "", ""
    row.save(update_fields=["state", "heartbeat_at", "started_at", "finished_at", "error", "remedy"])
    return True


def progress(*, run: int, phase: str, done: int, total: int, unit: str = "", rate: float | None = None) -> bool:
    """Record how far a run is and renew its heartbeat; tell whether it should stop."""
    rows = Run.objects.filter(id=run)
    rows.update(phase=phase, done=done, total=total, unit=unit, rate=rate, heartbeat_at=timezone.now())
    state = rows.values_list("cancel_requested", "state").first()
    return state is None or state[0] or state[1] != Run.State.RUNNING


def log(*, run: int, text: str) -> None:
    """Add a line to a run's log."""
    RunLine.objects.create(run_id=run, text=storable(text)[:2000])


@transaction.atomic
def finish(*, run: int) -> None:
    """Mark a run as done."""
    _end(run, Run.State.DONE)


def record(*, run: int, result: Mapping[str, Any]) -> None:
    """Store what came of a run, JSON-ready; `links` are addresses of pages that show it."""
    Run.objects.filter(id=run).update(result=dict(result))


@transaction.atomic
def fail(*, run: int, error: FacetError) -> None:
    """Mark a run as failed, with a cause and a remedy; it may be resumed."""
    _end(run, Run.State.FAILED, error=storable(error.cause), remedy=storable(error.remedy))


@transaction.atomic
def stop(*, run: int) -> bool:
    """Mark a run as cancelled: its worker has stopped. False if it was over already."""
    return _end(run, Run.State.CANCELLED)


def may_control(*, started_by: str, user: AbstractBaseUser | None) -> bool:
    """Tell whether a user may stop and resume a run: who started it, by name, and staff. Of a command's, staff only."""
    if user is None or not user.is_authenticated:
        return False
    return user.is_staff or user.get_username() == started_by


@transaction.atomic
def cancel(*, run: int, user: AbstractBaseUser | None = None) -> None:
    """Ask a run to stop: one that waits is cancelled at once, one that runs when its worker next looks.

    Without a user it is this machine that asks. Raises SignInRequired, NotAllowed for somebody else's run, Conflict
    for one that is over.
    """
    row = _controlled(run, user)
    if row.state == Run.State.QUEUED:
        _end(run, Run.State.CANCELLED)
    elif row.state == Run.State.RUNNING:
        row.cancel_requested = True
        row.save(update_fields=["cancel_requested"])
    else:
        raise Conflict(f"Run {run} is {row.state} already.", "There is nothing to cancel.", run=run)


@transaction.atomic
def resume(*, run: int, user: AbstractBaseUser | None = None) -> None:
    """Queue a run that failed or was cancelled; it goes on from the shards that are finished.

    Without a user it is this machine that asks. Raises SignInRequired, NotAllowed for somebody else's run, and
    Conflict.
    """
    row = _controlled(run, user)
    if row.state not in (Run.State.FAILED, Run.State.CANCELLED):
        raise Conflict(f"Run {run} is {row.state}.", "Only a run that failed or was cancelled can be resumed.", run=run)
    dictionaries = list(row.dictionaries.select_for_update().values_list("id", flat=True))
    if row.kind in ABOUT_DICTIONARIES and not dictionaries:
        raise Conflict(f"The dictionaries of run {run} are gone.", "Start another run.", run=run)
    _refuse_second(row.kind, dictionaries)
    forgive(run=run)
    _queue(row)


@transaction.atomic
def requeue(*, run: int) -> bool:
    """Queue a run whose worker is gone; False if it is not running any more, or was to stop anyway."""
    row = _locked(run)
    if row.state != Run.State.RUNNING:
        return False
    if row.cancel_requested:
        _end(run, Run.State.CANCELLED)
        return False
    _queue(row)
    RunLine.objects.create(run=row, text="The worker was lost; queued again.")
    return True


def _queue(row: Run) -> None:
    row.state, row.cancel_requested, row.rate = Run.State.QUEUED, False, None
    row.finished_at, row.error, row.remedy = None, "", ""
    row.save(update_fields=["state", "cancel_requested", "rate", "finished_at", "error", "remedy"])


def _end(run: int, state: str, **fields: Any) -> bool:
    """End a run that is not over; of several processes that end it, the first decides how."""
    active = Run.objects.filter(id=run, state__in=Run.ACTIVE)
    return bool(active.update(state=state, finished_at=timezone.now(), rate=None, **fields))


def _locked(run: int) -> Run:
    row = Run.objects.select_for_update().filter(id=run).first()
    if row is None:
        raise NotFound(f"There is no run {run}.", "Choose one from the list.", suggestions=["/runs"], run=run)
    return row


def _controlled(run: int, user: AbstractBaseUser | None) -> Run:
    """Return a run, locked, that the user may stop and resume."""
    row = _locked(run)
    if user is not None:
        started_by = row.created_by.get_username() if row.created_by else ""
        if not may_control(started_by=started_by, user=signed_in(user)):
            raise NotAllowed(
                f"Run {run} was started by {started_by or 'a command'}.",
                "Only who started a run, or an account with staff status, may stop or resume it.",
                run=run,
            )
    return row


def _refuse_second(kind: str, dictionaries: Sequence[int]) -> None:
    """Raise Conflict where a run of this kind is at work on a dictionary; the caller has locked the dictionaries."""
    kinds = WRITE_DASHBOARDS if kind in WRITE_DASHBOARDS else {kind}
    through = Run.dictionaries.through.objects
    rows = through.filter(dictionary_id__in=dictionaries, run__kind__in=kinds, run__state__in=Run.ACTIVE)
    if other := rows.select_related("dictionary", "run").first():
        raise Conflict(
            f"{other.dictionary.source} is being {UNDER_WAY[other.run.kind]} by run {other.run_id}.",
            "Wait until it is done, or cancel it.",
            run=other.run_id,
        )
