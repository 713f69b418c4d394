"""Where the embedded servers live on this machine.

Everything is under `.local/` of the checkout, unless that cannot be: Postgres runs as another account where Facet runs
as root, and that account must reach its data and its binaries (a checkout under `/root` is closed to it); and a Unix
socket's path has at most 107 bytes. Whatever must move goes to a folder named after the checkout, so that the next
start finds it again.
"""

import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from explorer.local import accounts, binaries
from explorer.local.accounts import Account
from explorer.local.postgres import Postgres
from explorer.local.problems import LocalProblem
from explorer.local.valkey import Valkey

CHECKOUT = Path(__file__).resolve().parent.parent.parent
# The kernel's limit of 107 bytes, less the longest name of a socket file.
MAX_SOCKET_FOLDER = 107 - len("/.s.PGSQL.5432.lock")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The folders of one installation, and what had to move and why (`remarks`)."""

    local: Path
    logs: Path
    postgres: Postgres
    valkey: Valkey
    remarks: tuple[str, ...] = ()


def lay_out(local: Path, *, durable: bool = True) -> Layout:
    """Decide where the servers of `local` live; makes the folders that lead there and starts nothing."""
    local.mkdir(parents=True, exist_ok=True)
    remarks = []
    account = accounts.server_account(data=local / "postgres", checkout=CHECKOUT)
    home = local
    if account and not account.can_run(["test", "-x", local]):
        home = _standing_folder("/var/tmp", local)
        remarks.append(f"The account {account.name}, as which Postgres runs, cannot enter {local}: data is in {home}.")
        account = accounts.server_account(data=home / "postgres", checkout=CHECKOUT)
    sockets = home / "run"
    if len(os.fsencode(sockets / "postgres")) > MAX_SOCKET_FOLDER:
        sockets = _standing_folder(tempfile.gettempdir(), local)
        remarks.append(f"{home} is too long a path for a Unix socket: sockets are in {sockets}.")
    sockets.mkdir(parents=True, exist_ok=True)
    logs = local / "logs"
    return Layout(
        local=local,
        logs=logs,
        postgres=Postgres(
            data=home / "postgres",
            sockets=sockets / "postgres",
            log=logs / "postgres.log",
            bin=reachable_binaries(account),
            account=account,
            durable=durable,
        ),
        valkey=Valkey(
            data=home / "valkey", socket=sockets / "valkey" / "valkey.sock", log=logs / "valkey.log", durable=durable
        ),
        remarks=tuple(remarks),
    )


def reachable_binaries(account: Account | None) -> Path:
    """Return the folder of Postgres' binaries: the wheel's own, or a copy where the account cannot run those."""
    package, folder = binaries.postgres_folders()
    if account is None or account.can_run([folder / "postgres", "--version"]):
        return folder
    home = _standing_folder("/var/tmp", package)
    copied = home / package.name / folder.relative_to(package)
    if not account.can_run([copied / "postgres", "--version"]):
        # The binaries find their libraries beside themselves, in the wheel's `.libs` folder among others.
        libraries = package.with_name(f"{package.name}.libs")
        for source in (folder.parent, *([libraries] if libraries.is_dir() else [])):
            shutil.copytree(source, home / source.relative_to(package.parent), dirs_exist_ok=True, symlinks=True)
    if not account.can_run([copied / "postgres", "--version"]):
        raise LocalProblem(
            f"The account {account.name} can run Postgres neither from {folder} nor from {copied}.",
            "Run as an ordinary user, or set DATABASE_URL to a server of your own.",
        )
    return copied


def _standing_folder(parent: str, key: Path) -> Path:
    """Return a folder named after `key` that every start finds again; refuse one that somebody else made."""
    name = f"facet-{os.geteuid()}-{hashlib.sha256(os.fsencode(key)).hexdigest()[:12]}"
    folder = Path(parent) / name
    folder.mkdir(mode=0o755, exist_ok=True)
    if folder.stat().st_uid != os.geteuid() or folder.is_symlink():
        raise LocalProblem(f"{folder} belongs to somebody else.", f"Remove {folder} and start again.")
    return folder
