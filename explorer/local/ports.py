"""Ports: is one free, who holds it, which one is next."""

import contextlib
import socket
from pathlib import Path

from explorer.local.children import command_of
from explorer.local.problems import LocalProblem

TRIES = 20
_LISTEN = "0A"


def choose(host: str, wanted: int, *, named: bool) -> int:
    """Return `wanted`, or the next free port where the user did not name one."""
    if is_free(host, wanted):
        return wanted
    if not named:
        for port in range(wanted + 1, wanted + TRIES):
            if is_free(host, port):
                return port
    holder = holder_of(wanted)
    raise LocalProblem(
        f"Port {wanted} is taken{f' by {holder}' if holder else ''}.",
        f"Stop that process, or choose another port: FACET_PORT={wanted + 80} make demo",
    )


def free() -> int:
    """Return a port of the loopback interface that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_free(host: str, port: int) -> bool:
    """Say whether a server could listen on the port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # As uvicorn does: a port whose last connections are still closing counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except PermissionError:
            raise LocalProblem(f"This account may not listen on port {port}.", "Set FACET_PORT above 1023.") from None
        except OSError:
            return False
    return True


def holder_of(port: int) -> str | None:
    """Return `command (process 123)` of the process that listens on the port, where Linux lets this account see it."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN and int(fields[1].rsplit(":", 1)[1], 16) == port:
                    inodes.add(f"socket:[{fields[9]}]")
    for descriptor in Path("/proc").glob("[0-9]*/fd/*") if inodes else ():
        with contextlib.suppress(OSError):
            if str(descriptor.readlink()) in inodes:
                pid = int(descriptor.parts[2])
                return f"`{(command_of(pid) or '?')[:80]}` (process {pid})"
    return None
