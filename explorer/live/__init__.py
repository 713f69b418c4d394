"""Live requests to the engine, as the web sees them: submit, wait or follow, cancel, and who is there to answer."""

from explorer.live.errors import Cancelled, EngineBusy, JobUnknown, LiveTimeout, NoWorker, ValkeyGone
from explorer.live.events import Event, follow, is_over
from explorer.live.jobs import cancel, engine_status, enqueue_run, release_database, submit, wait

__all__ = [
    "Cancelled",
    "EngineBusy",
    "Event",
    "JobUnknown",
    "LiveTimeout",
    "NoWorker",
    "ValkeyGone",
    "cancel",
    "engine_status",
    "enqueue_run",
    "follow",
    "is_over",
    "release_database",
    "submit",
    "wait",
]
