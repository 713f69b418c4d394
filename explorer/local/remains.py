"""One supervisor at a time, and nothing left over from one that was killed."""

import contextlib
import fcntl
import json
import os
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from explorer.local.children import command_of
from explorer.local.problems import LocalProblem

GRACE_SECONDS = 10


@contextlib.contextmanager
def sole_supervisor(local: Path) -> Iterator[None]:
    """Hold the lock of `local` for the length of a block; it is free again whatever ends this process."""
    local.mkdir(parents=True, exist_ok=True)
    with (local / "supervisor.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise LocalProblem(
                f"Facet runs already from this checkout (process {lock.read().strip() or 'unknown'}).",
                "Use that one, or stop it with Ctrl-C in its terminal.",
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def remember(local: Path, pids: Mapping[str, int]) -> None:
    """Write down the processes that run, for a next start that finds them still there."""
    facts = {name: {"pid": pid, "command": command_of(pid)} for name, pid in pids.items()}
    # In one step: whoever reads, after a kill at any moment too, finds the old list or the new one.
    draft = local / "children.json.draft"
    draft.write_text(json.dumps(facts))
    draft.replace(local / "children.json")


def end_leftovers(local: Path) -> list[str]:
    """End what is left of a run whose supervisor was killed, and return the names.

    Where the kernel told the children of their parent's death they are already ending; elsewhere they are told now.
    """
    try:
        facts = json.loads((local / "children.json").read_text())
    except (FileNotFoundError, ValueError):
        return []

    def alive(name: str) -> bool:
        # The command line guards against a number that now belongs to another process.
        command = command_of(facts[name]["pid"])
        return command is not None and command == facts[name]["command"]

    left = [name for name in facts if alive(name)]
    for name in left:
        # Postgres understands SIGINT as: end all sessions and stop.
        _signal(facts[name]["pid"], signal.SIGINT if name == "postgres" else signal.SIGTERM)
    deadline = time.monotonic() + GRACE_SECONDS
    while any(map(alive, left)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for name in filter(alive, left):
        _signal(facts[name]["pid"], signal.SIGQUIT if name == "postgres" else signal.SIGKILL)
    (local / "children.json").unlink()
    return left


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
