"""Dictionaries by hub id: `owner/name`, with `@commit`, `:folder/inside` and `#part` where they are wanted.

What the hub's cache on this machine has is taken from there, without a network. Without the hub's client, or without a
network, there is an error within seconds.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from inference.dictionaries.config import SeveralDictionaries
from inference.dictionaries.formats import MAX_SUGGESTIONS
from inference.dictionaries.storage import SUFFIXES
from inference.errors import InvalidInput, Unavailable

HUB_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w.-]+))?(?::(?P<inside>[^:#]*))?(?P<part>#.*)?")
TIMEOUT_SECONDS = 5.0


class DiskTooSmall(InvalidInput):
    """A download that would not fit on the disk."""

    code = "disk-too-small"


class NoHub(Unavailable):
    """A hub id that cannot be looked up from here."""

    code = "no-hub"


def local_path(path_or_id: str, *, endpoint: str | None = None) -> Path:
    """Return a path that exists as it is, and for a hub id the folder it was downloaded to.

    Raises NoHub, DiskTooSmall, and SeveralDictionaries for a repository of many without a folder. What is neither a
    path nor an id is returned, for `read_config` to explain.
    """
    match = HUB_ID.fullmatch(path_or_id)
    there = Path(path_or_id.rpartition("#")[0] or path_or_id).exists()
    if there or match is None or path_or_id.startswith((".", "~")):
        return Path(path_or_id).expanduser()
    try:
        from huggingface_hub import HfApi, constants, errors, snapshot_download
    except ImportError as error:
        raise _no_hub(path_or_id, "the hub's client is not installed") from error
    repo, revision, inside = match["repo"], match["revision"], (match["inside"] or "").strip("/")
    part = match["part"] or ""
    wanted = [f"{inside}/*", inside] if inside else ["*"]
    try:
        folder = snapshot_download(repo, revision=revision, allow_patterns=wanted, local_files_only=True)
        return Path(f"{Path(folder) / inside}{part}")
    except errors.LocalEntryNotFoundError:
        pass
    if constants.HF_HUB_OFFLINE:
        raise _no_hub(path_or_id, "HF_HUB_OFFLINE is set, and this machine's cache does not have it")
    try:
        info = HfApi(endpoint=endpoint).model_info(
            repo, revision=revision, files_metadata=True, timeout=TIMEOUT_SECONDS
        )
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
        sizes = {name: size for name, size in sizes.items() if not inside or name.startswith(inside)}
        check_download(path_or_id, sizes, free_bytes=shutil.disk_usage(_existing(constants.HF_HUB_CACHE)).free)
        folder = snapshot_download(repo, revision=info.sha, allow_patterns=wanted, endpoint=endpoint)
    except errors.RepositoryNotFoundError as error:
        raise _no_hub(path_or_id, "the hub has no such repository, or not for you") from error
    except (errors.HTTPError, OSError) as error:
        raise _no_hub(path_or_id, f"the hub does not answer ({type(error).__name__})") from error
    return Path(f"{Path(folder) / inside}{part}")


def check_download(path_or_id: str, sizes: dict[str, int], *, free_bytes: int) -> None:
    """Raise SeveralDictionaries for more than one folder of weights, DiskTooSmall for more bytes than there is room."""
    folders = _folders_of_weights(sizes)
    if len(folders) > 1:
        raise SeveralDictionaries(
            f"{path_or_id} has weights in {len(folders)} folders.",
            f"Name one: {path_or_id.partition(':')[0]}:FOLDER.",
            suggestions=[f"{path_or_id.partition(':')[0]}:{folder}" for folder in folders[:MAX_SUGGESTIONS]],
        )
    needed = sum(sizes.values())
    if needed > free_bytes:
        raise DiskTooSmall(
            f"{path_or_id} has {needed / 1e9:.1f} GB, and the disk of the hub's cache {free_bytes / 1e9:.1f} GB free.",
            "Free some, or set HF_HOME to a larger disk.",
            needed_bytes=needed,
            free_bytes=free_bytes,
        )


def _folders_of_weights(names: Iterable[str]) -> list[str]:
    return sorted({name.rpartition("/")[0] for name in names if name.endswith(SUFFIXES)})


def _existing(folder: str) -> Path:
    path = Path(folder)
    return next(parent for parent in (path, *path.parents) if parent.exists())


def _no_hub(path_or_id: str, why: str) -> NoHub:
    return NoHub(
        f"{path_or_id} is no path here, and as a hub id it cannot be fetched: {why}.",
        "Check the spelling; or download it on a machine with a network and name the folder.",
        id=path_or_id,
    )
