"""What runs have in common, whatever they do: taken up, reported, and ended with a result or with an error.

A job is `job(run, reporter)`: it works, tells the reporter how far it is, raises Cancelled when `should_stop()` says,
and may be repeated from the start by another process. `WORK` names the function that carries out each kind of run.
Jobs need torch or a network: only workers and commands call them.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from importlib import import_module

import psycopg
import structlog
from django.db import InterfaceError, OperationalError, connection

from features import services
from features.holds import SHARED
from features.models import Run
from inference.dashboards.corpus import Cancelled
from inference.dashboards.results import Progress
from inference.errors import FacetError, Unavailable

log = structlog.get_logger(__name__)

REPORT_SECONDS = 1.0
# `module:function` of each kind; the function takes the run's id, and `watch` by name; of shared runs, `crew` too.
WORK: dict[str, str] = {
    Run.Kind.BUILD: "features.builds:run_build",
    Run.Kind.EVALUATION: "features.evaluations:run_evaluation",
    Run.Kind.ADDITION: "features.additions:run_addition",
    Run.Kind.IMPORT: "features.imports.job:run_import",
    Run.Kind.EXPORT: "features.exports.job:run_export",
}
Watcher = Callable[[Progress, float | None], None]
# What Postgres says of connections that end or do not begin: it was stopped, it crashed, it is starting.
_AWAY = ("08", "57P01", "57P02", "57P03")
# Returns False where the run goes on without this process.
Job = Callable[[Run, "Reporter"], bool | None]


class DatabaseAway(Unavailable):
    """Postgres went away under a run, which stays marked as running and goes on when somebody looks for lost ones."""

    code = "database-away"


class DatabaseFull(Unavailable):
    """Postgres has no room to store what came out."""

    code = "database-full"


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """This process by name, and who may share a run with it: a command is alone."""

    name: str = field(default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}")
    # The names of all living workers that could take part.
    workers: Callable[[], Collection[str]] = tuple
    # Asks for so many more to come.
    invite: Callable[[int], None] = lambda count: None


def silent(progress: Progress, rate: float | None) -> None:
    """Watch nothing."""


def work(run_id: int, *, watch: Watcher = silent, crew: Crew | None = None) -> None:
    """Carry out a run of any kind, or take part in one that is shared; the process must hold it (features.holds)."""
    kind = Run.objects.filter(id=run_id).values_list("kind", flat=True).first()
    if kind is None:
        log.warning("There is no such run.", run=run_id)
        return
    module, _, function = WORK[kind].partition(":")
    shared = {"crew": crew or Crew()} if kind in SHARED else {}
    getattr(import_module(module), function)(run_id, watch=watch, **shared)


def carry_out(run_id: int, job: Job, *, watch: Watcher = silent) -> None:
    """Start a run, do its job, and end it unless others go on with it.

    Whatever goes wrong is recorded in the run with a cause and a remedy, and raised again if it is not a FacetError.
    Raises DatabaseAway where nothing can be recorded. `watch` is told of progress as the run's page is.
    """
    if not services.runs.start(run=run_id):
        log.info("The run is over; there is nothing to do.", run=run_id)
        return
    reporter = Reporter(run_id, watch)
    try:
        is_over = job(Run.objects.select_related("corpus").get(id=run_id), reporter) is not False
    except Cancelled:
        if services.runs.stop(run=run_id):
            services.runs.log(run=run_id, text="Cancelled; what is finished stays for a later resume.")
    except FacetError as error:
        log.warning("The run failed.", run=run_id, cause=error.cause)
        services.runs.fail(run=run_id, error=error)
    except (OperationalError, InterfaceError, psycopg.OperationalError) as error:
        connection.close()
        _fail_of_database(run_id, error)
    except Exception as error:
        services.runs.fail(run=run_id, error=_unexpected(error))
        raise
    else:
        if is_over:
            services.runs.finish(run=run_id)


def _fail_of_database(run_id: int, error: Exception) -> None:
    """Record what Postgres complained of, and raise unless it is the user's to mend."""
    complaint = error if isinstance(error, psycopg.Error) else error.__cause__
    state = getattr(complaint, "sqlstate", None)
    if isinstance(complaint, psycopg.errors.DiskFull):
        failure = DatabaseFull(
            f"The disk of the database is full: {_first_line(error)}",
            "Free some space there and resume the run: what is finished is kept.",
        )
        services.runs.fail(run=run_id, error=failure)
    elif state is None or state.startswith(_AWAY):
        raise DatabaseAway(
            f"The database went away during run {run_id}: {_first_line(error)}",
            "Batch workers take the run up again when it is back, as does python manage.py resume_runs; what is"
            " finished is kept.",
        ) from error
    else:
        services.runs.fail(run=run_id, error=_unexpected(error))
        raise error


def _unexpected(error: Exception) -> FacetError:
    return FacetError(
        f"{type(error).__name__}: {_first_line(error)}",
        "The worker's log has the details. Resume the run, or report it.",
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:300] or "no message"


class Reporter:
    """Passes progress on to the run, at most once a second and at every change of phase."""

    def __init__(self, run_id: int, watch: Watcher = silent) -> None:
        self.run_id, self.watch = run_id, watch
        self.stopping = False
        self._phase, self._began, self._first = "", 0.0, 0
        self._reported = 0.0

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if progress.phase != self._phase:
            self._phase, self._began, self._first, self._reported = progress.phase, now, progress.done, 0.0
        if now - self._reported < REPORT_SECONDS and progress.done < progress.total:
            return
        self._reported = now
        seconds = now - self._began
        rate = (progress.done - self._first) / seconds if seconds > REPORT_SECONDS / 2 else None
        self.watch(progress, rate)
        try:
            self.stopping |= services.runs.progress(
                run=self.run_id,
                phase=progress.phase,
                done=progress.done,
                total=progress.total,
                unit=progress.unit,
                rate=rate,
            )
        except (OperationalError, InterfaceError) as error:
            # Postgres is away for now: the work goes on, and the next report finds it back.
            log.warning("Progress could not be reported.", run=self.run_id, error=str(error).strip())
            connection.close()

    def tell(self, phase: str, done: int, total: int, unit: str = "") -> None:
        """Report."""
        self(Progress(phase=phase, done=done, total=total, unit=unit))

    def at(self, phase: str, done: int, total: int, unit: str = "") -> None:
        """Report, and raise Cancelled if the run is to stop."""
        self.tell(phase, done, total, unit)
        if self.stopping:
            raise Cancelled

    def should_stop(self) -> bool:
        return self.stopping

    def say(self, text: str) -> None:
        services.runs.log(run=self.run_id, text=text)
