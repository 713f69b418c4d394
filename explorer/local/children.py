"""Child processes that never outlive the supervisor: own session, own log, and a signal when their parent dies."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from explorer.local.accounts import Account

MAX_LOG_BYTES = 10_000_000
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def spawn(
    command: Sequence[str | Path],
    *,
    log: Path | None,
    cwd: Path = Path("/"),
    env: Mapping[str, str] | None = None,
    account: Account | None = None,
    death_signal: signal.Signals = signal.SIGTERM,
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, so that Ctrl-C reaches only the supervisor, and append to its log.

    Without a log it writes where this process writes.
    On Linux the kernel sends `death_signal` when the parent is killed in a way that it cannot handle itself.
    """
    with _open(log) if log else contextlib.nullcontext() as out:
        return subprocess.Popen(
            [str(part) for part in command],
            cwd=cwd,
            env=None if env is None else dict(env),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT if log else None,
            start_new_session=True,
            preexec_fn=_die_with_parent(death_signal, os.getpid()),
            **(account.popen_options() if account else {}),
        )


def stop(child: subprocess.Popen[bytes], *, by: signal.Signals = signal.SIGTERM, seconds: float = 10) -> None:
    """Ask a child to end, wait, then kill what is left of its session."""
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(by)
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def tail(log: Path, lines: int = 3) -> str:
    """Return the last lines of a log, as one line for a message."""
    try:
        text = log.read_bytes()[-4000:].decode(errors="replace")
    except FileNotFoundError:
        return ""
    return " / ".join(line.strip() for line in text.splitlines()[-lines:] if line.strip())


def command_of(pid: int) -> str | None:
    """Return the command line of a process, or None where there is no such process."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip() or None
    except OSError:
        if Path("/proc/self").exists():
            return None
    done = subprocess.run(["ps", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def _open(log: Path) -> BinaryIO:
    """Open a log for more, putting it aside first once it is long."""
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > MAX_LOG_BYTES:
        log.replace(log.with_name(f"{log.name}.1"))
    return log.open("ab")


def _die_with_parent(death_signal: signal.Signals, parent: int) -> Callable[[], None] | None:
    if _libc is None:
        return None

    def set_death_signal() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, int(death_signal))
        if os.getppid() != parent:  # the parent died before the call above
            os.kill(os.getpid(), signal.SIGKILL)

    return set_death_signal
