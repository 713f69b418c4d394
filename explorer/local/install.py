"""Make `.venv` and install the lock into it; a few milliseconds where that is already done.

Runs as a script, before anything is installed, under whatever Python 3 the machine has: the standard library only, and
syntax that an older one can read, so that it can say what is wrong.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import IO, NoReturn

CHECKOUT = Path(os.path.realpath(__file__)).parent.parent.parent
VENV = CHECKOUT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "facet-installed"
LOG = CHECKOUT / ".local" / "logs" / "install.log"
LOCKS = {"demo": ["requirements.lock"], "dev": ["requirements.lock", "requirements-dev.lock"]}
NEEDED_BYTES = 3 * 1024**3
MIN_PYTHON = (3, 11)
NETWORK_SIGNS = ("NewConnectionError", "NameResolutionError", "ConnectTimeoutError", "ProxyError", "SSLError",
                 "ReadTimeoutError", "Max retries exceeded")  # fmt: skip


def main() -> None:
    wanted = sys.argv[1] if len(sys.argv) > 1 else "demo"
    if sys.version_info < MIN_PYTHON:
        fail(
            "Facet needs Python 3.11 or later; {} is {}.{}.".format(sys.executable, *sys.version_info[:2]),
            "Install a later one, then: make PYTHON=/path/to/python3 demo",
        )
    stamp = stamp_of(wanted)
    if works(PYTHON) and STAMP.exists() and stamp in STAMP.read_text().splitlines():
        return
    # The virtual environment needs no room of its own where it only lacks a package or two.
    if not works(PYTHON) and shutil.disk_usage(str(CHECKOUT)).free < NEEDED_BYTES:
        fail(f"Less than 3 GB are free at {CHECKOUT}.", "Make room there and start again.")
    LOG.parent.mkdir(parents=True, exist_ok=True)
    with LOG.open("w") as log:
        make_venv(log)
        install(wanted, log)
    known = STAMP.read_text().splitlines() if STAMP.exists() else []
    STAMP.write_text("\n".join(sorted({*known, stamp, stamp_of("demo")})))


def stamp_of(wanted: str) -> str:
    """Name what is to be installed: the locks and the Python that they are installed for."""
    digest = hashlib.sha256(f"{wanted} {sys.version_info[:2]}".encode())
    for name in LOCKS[wanted]:
        digest.update((CHECKOUT / name).read_bytes())
    return digest.hexdigest()


def make_venv(log: IO[str]) -> None:
    """Make the virtual environment, anew where the folder holds one that does not run."""
    if works(PYTHON):
        return
    say("Making .venv with Python {}.{}".format(*sys.version_info[:2]))
    if run([sys.executable, "-m", "venv", "--clear", str(VENV)], log) == 0:
        return
    # Debian's Python comes without ensurepip; where it has pip, that pip can fill the environment.
    if run([sys.executable, "-m", "venv", "--clear", "--without-pip", str(VENV)], log) == 0:
        pip = [sys.executable, "-m", "pip", "--python", str(PYTHON), "install", "--quiet", "pip"]
        if run(pip, log) == 0:
            return
    shutil.rmtree(str(VENV), ignore_errors=True)
    fail(
        f"{sys.executable} cannot make a virtual environment: its ensurepip is missing.",
        "Install the system's package for it (on Debian and Ubuntu: apt-get install python3-venv), then start again.",
    )


def install(wanted: str, log: IO[str]) -> None:
    """Install what the locks name."""
    say("Installing {} (log: {})".format(" and ".join(LOCKS[wanted]), LOG.relative_to(CHECKOUT)))
    files = [part for name in LOCKS[wanted] for part in ("-r", str(CHECKOUT / name))]
    command = [str(PYTHON), "-m", "pip", "install", "--no-input", "--disable-pip-version-check", *files]
    if run(command, log, show=True) == 0:
        return
    text = LOG.read_text(errors="replace")
    if "No space left on device" in text:
        fail("The disk is full.", f"Make room at {CHECKOUT} and in the temporary folder, then start again.")
    if any(sign in text for sign in NETWORK_SIGNS):
        fail(
            "The package index cannot be reached.",
            "Check the network or the proxy (HTTPS_PROXY, PIP_INDEX_URL) and start again: what was done is kept.",
        )
    errors = [line for line in text.splitlines() if line.startswith("ERROR")]
    fail(errors[-1] if errors else "pip could not install the packages.", f"See {LOG}.")


def run(command: list[str], log: IO[str], *, show: bool = False) -> int:
    """Run a command into the log; with `show` also onto the terminal, a line per package."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    assert process.stdout is not None
    width = shutil.get_terminal_size().columns - 3
    for line in process.stdout:
        log.write(line)
        if show and sys.stdout.isatty() and line.startswith(("Collecting", "Installing", "Processing")):
            print("\r\033[K  " + line.strip()[:width], end="", flush=True)
    if show and sys.stdout.isatty():
        print("\r\033[K", end="", flush=True)
    log.flush()
    return process.wait()


def works(python: Path) -> bool:
    """Say whether an interpreter is there and runs: a moved or half-made environment does not."""
    try:
        command = [str(python), "-c", "import sys, pip; sys.exit(sys.version_info[:2] < (3, 11))"]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def say(text: str) -> None:
    print(text, flush=True)


def fail(cause: str, remedy: str) -> NoReturn:
    print(f"Cannot set up Facet: {cause}\n  Remedy: {remedy}", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    main()
