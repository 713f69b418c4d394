"""What can go wrong between a reader and a worker, phrased once."""

from __future__ import annotations

from inference.errors import Conflict, FacetError, NotFound, Unavailable, WorkerLost

START_COMMANDS = {
    "engine": "celery -A explorer worker --queues engine --pool solo",
    "batch": "celery -A explorer worker --queues batch --pool solo",
}


class EngineBusy(Unavailable):
    """More live requests wait than the deployment accepts."""

    code = "engine-busy"

    def __init__(self, waiting: int) -> None:
        super().__init__(
            f"The engine is busy: {waiting} requests wait already.",
            "Try again in a few seconds, or start another engine worker.",
            waiting=waiting,
        )


class NoWorker(Unavailable):
    """Nobody serves the queue."""

    code = "no-worker"

    def __init__(self, queue: str) -> None:
        super().__init__(
            f"No {queue} worker is running, so nothing can be computed for now.",
            f"Start one with `{START_COMMANDS[queue]}`, or start everything with `make demo`.",
            queue=queue,
            command=START_COMMANDS[queue],
        )


class Cancelled(Conflict):
    """The request was cancelled before a worker took it."""

    code = "cancelled"

    def __init__(self) -> None:
        super().__init__("The request was cancelled before it began.", "Run it again.")


class LiveTimeout(FacetError):
    """The answer took longer than the reader waits."""

    code = "timeout"
    status = 504

    def __init__(self, seconds: float, *, started: bool) -> None:
        where = "The engine did not finish" if started else "The engine did not come to this request"
        super().__init__(
            f"{where} within {seconds:.0f} seconds; the request was cancelled.",
            "Try a shorter text or fewer tokens and dictionaries, or try again when fewer requests wait.",
            seconds=seconds,
            started=started,
        )


class JobUnknown(NotFound):
    """The stream of the job is not there: never was, expired, or went with Valkey."""

    code = "job-unknown"

    def __init__(self, job: str) -> None:
        super().__init__(
            "The events of this request are gone: they are kept for 15 minutes, or until Valkey restarts.",
            "Run it again.",
            job=job,
        )


class ValkeyGone(Unavailable):
    """The server that carries requests and answers does not answer."""

    code = "valkey-gone"

    def __init__(self) -> None:
        super().__init__(
            "Valkey, which carries requests to the engine, does not answer.",
            "Start it again (`make demo` does); this page recovers by itself when you retry.",
        )


def worker_lost(worker: str) -> WorkerLost:
    """Return the error for a worker that disappeared while it held a request."""
    return WorkerLost(
        "The engine worker stopped in the middle of this request.",
        "Retry: the request was not changed, and another worker or the restarted one will take it.",
        worker=worker,
        retry=True,
    )
