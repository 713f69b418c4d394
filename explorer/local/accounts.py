"""The account that Postgres runs as: Postgres refuses to run as root."""

import os
import pwd
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explorer.local.problems import LocalProblem


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An unprivileged account of this machine."""

    name: str
    uid: int
    gid: int

    def popen_options(self) -> dict[str, Any]:
        """Return what `subprocess` needs to start a process as this account."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def can_run(self, command: Sequence[str | Path]) -> bool:
        """Say whether a command succeeds as this account: the plainest test of whether it can reach a path."""
        try:
            done = subprocess.run(
                command, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, check=False, **self.popen_options()
            )
        except OSError:  # the binary is out of reach or missing
            return False
        return done.returncode == 0


def server_account(*, data: Path, checkout: Path) -> Account | None:
    """Return the account that Postgres must run as, or None where this process is an ordinary user.

    As root that is the owner of the data from an earlier start, else the user behind `sudo`, else the owner of the
    checkout, else `nobody`.
    """
    if os.geteuid() != 0:
        return None
    candidates = [_owner(data), int(os.environ.get("SUDO_UID", "0")), _owner(checkout)]
    for uid in candidates:
        if uid:
            try:
                return _account(pwd.getpwuid(uid))
            except KeyError:  # Postgres also needs the account's name
                continue
    try:
        return _account(pwd.getpwnam("nobody"))
    except KeyError:
        raise LocalProblem(
            "Postgres does not run as root, and this machine has no account `nobody`.",
            "Run as an ordinary user, or set DATABASE_URL to a server of your own.",
        ) from None


def _account(entry: pwd.struct_passwd) -> Account:
    return Account(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid)


def _owner(path: Path) -> int:
    try:
        return path.stat().st_uid
    except FileNotFoundError:
        return 0
