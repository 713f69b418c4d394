"""Dictionaries by hub id: `owner/name`, with `@commit`, `:folder/inside` and `#part` where they are wanted.

What the hub's cache on this machine has is taken from there, without a network. Without the hub's client, or without a
network, there is an error within seconds.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from inference.dictionaries.config import SeveralDictionaries
from inference.dictionaries.formats import MAX_SUGGESTIONS
from inference.dictionaries.storage import SUFFIXES
from inference.errors import InvalidInput, Unavailable

HUB_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w.-]+))?(?::(?P<inside>[^:#]*))?(?P<part>#.*)?")
TIMEOUT_SECONDS = 5.0
POLL_SECONDS = 0.25
# A process can be stopped in the middle of a file of gigabytes, a thread cannot.
_CHILD = """
import json, sys
from huggingface_hub import snapshot_download
from huggingface_hub.utils import disable_progress_bars
disable_progress_bars()
print(snapshot_download(**json.loads(sys.argv[1])))
"""


class DiskTooSmall(InvalidInput):
    """A download that would not fit on the disk."""

    code = "disk-too-small"


class NoHub(Unavailable):
    """A hub id that cannot be looked up from here."""

    code = "no-hub"


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """What a hub id would fetch: files of one commit with their bytes, and how many bytes the cache lacks."""

    id: str
    repo: str
    revision: str
    inside: str
    part: str
    sizes: Mapping[str, int]
    missing_bytes: int
    free_bytes: int
    endpoint: str | None = None

    @property
    def n_bytes(self) -> int:
        return sum(self.sizes.values())


def is_hub_id(path_or_id: str) -> bool:
    """Tell whether a name is to be looked up on a hub: it has the form of an id, and nothing lies at it here."""
    there = Path(path_or_id.rpartition("#")[0] or path_or_id).exists()
    return not there and HUB_ID.fullmatch(path_or_id) is not None and not path_or_id.startswith((".", "~"))


def local_path(path_or_id: str, *, endpoint: str | None = None) -> Path:
    """Return a path that exists as it is, and for a hub id the folder it was downloaded to.

    Raises NoHub, DiskTooSmall, and SeveralDictionaries for a repository of many without a folder. What is neither a
    path nor an id is returned, for `read_config` to explain.
    """
    if not is_hub_id(path_or_id):
        return Path(path_or_id).expanduser()
    return cached(path_or_id) or fetch(plan(path_or_id, endpoint=endpoint))


def cached(path_or_id: str, *, of: Sequence[str] = ("*",)) -> Path | None:
    """Return where a hub id lies in this machine's cache, None unless all of it does. Uses no network."""
    repo, revision, inside, part = _parts(path_or_id)
    _, errors, snapshot_download, _ = _client(path_or_id)
    try:
        folder = snapshot_download(repo, revision=revision, allow_patterns=_wanted(inside, of), local_files_only=True)
    except (errors.LocalEntryNotFoundError, errors.EntryNotFoundError):
        return None
    path = Path(folder) / inside
    return Path(f"{path}{part}") if path.exists() else None


def plan(
    path_or_id: str, *, endpoint: str | None = None, several: bool = False, of: Sequence[str] = ("*",)
) -> Download:
    """Ask the hub what an id would fetch, within seconds.

    `several` lets a repository with weights in many folders pass; `of` are patterns of the files that matter. Raises
    what `local_path` does.
    """
    repo, revision, inside, part = _parts(path_or_id)
    api, errors, _, constants = _client(path_or_id)
    if constants.HF_HUB_OFFLINE:
        raise _no_hub(path_or_id, "HF_HUB_OFFLINE is set, and this machine's cache does not have it")
    try:
        info = api(endpoint=endpoint).model_info(repo, revision=revision, files_metadata=True, timeout=TIMEOUT_SECONDS)
    except errors.RepositoryNotFoundError as error:
        raise _no_hub(path_or_id, "the hub has no such repository, or not for you") from error
    except (errors.HTTPError, OSError) as error:
        raise _no_hub(path_or_id, f"the hub does not answer ({type(error).__name__})") from error
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    patterns = _wanted(inside, of)
    sizes = {name: size for name, size in sizes.items() if any(fnmatch(name, pattern) for pattern in patterns)}
    if not sizes:
        raise _no_hub(path_or_id, f"the repository has nothing at {inside!r}")
    free_bytes = shutil.disk_usage(_existing(constants.HF_HUB_CACHE)).free
    here = Path(constants.HF_HUB_CACHE) / _folder_of(repo) / "snapshots" / str(info.sha)
    missing = sum(size for name, size in sizes.items() if not (here / name).exists())
    check_download(path_or_id, sizes, free_bytes=free_bytes, missing_bytes=missing, several=several)
    return Download(
        id=path_or_id,
        repo=repo,
        revision=str(info.sha),
        inside=inside,
        part=part,
        sizes=sizes,
        missing_bytes=missing,
        free_bytes=free_bytes,
        endpoint=endpoint,
    )


def fetch(
    download: Download,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Path | None:
    """Download to the hub's cache in a process of its own; return the folder, None where `should_stop` said so.

    `progress` is told of bytes, a few times a second. Files that are complete stay, so that a later fetch goes on from
    there. Raises NoHub.
    """
    from huggingface_hub import constants

    blobs = Path(constants.HF_HUB_CACHE) / _folder_of(download.repo) / "blobs"
    before, total = _bytes_in(blobs), max(1, download.missing_bytes)
    order = {"repo_id": download.repo, "revision": download.revision, "endpoint": download.endpoint}
    order |= {"allow_patterns": list(download.sizes), "cache_dir": str(constants.HF_HUB_CACHE)}
    command = [sys.executable, "-c", _CHILD, json.dumps(order)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        try:
            while child.poll() is None:
                progress(min(total, max(0, _bytes_in(blobs) - before)), total)
                if should_stop():
                    return None
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(POLL_SECONDS)
        finally:
            child.kill()
        out, problem = child.communicate()
    if child.returncode:
        lines = problem.strip().splitlines() or ["no message"]
        raise _no_hub(download.id, f"the download failed ({lines[-1][:200]})")
    progress(total, total)
    return Path(f"{Path(out.strip().splitlines()[-1]) / download.inside}{download.part}")


def _client(path_or_id: str) -> tuple[Any, Any, Any, Any]:
    """Return the hub's client, its errors, its downloads and its constants; raise NoHub where it is not installed."""
    try:
        from huggingface_hub import HfApi, constants, errors, snapshot_download
    except ImportError as error:
        raise _no_hub(path_or_id, "the hub's client is not installed") from error
    return HfApi, errors, snapshot_download, constants


def _parts(path_or_id: str) -> tuple[str, str | None, str, str]:
    match = HUB_ID.fullmatch(path_or_id)
    if match is None:
        raise InvalidInput(f"{path_or_id[:200]!r} is no hub id.", "Write owner/name, owner/name@commit:folder.")
    return match["repo"], match["revision"], (match["inside"] or "").strip("/"), match["part"] or ""


def _wanted(inside: str, of: Sequence[str] = ("*",)) -> list[str]:
    return [f"{inside}/*", inside] if inside else list(of)


def _folder_of(repo: str) -> str:
    return f"models--{repo.replace('/', '--')}"


def _bytes_in(folder: Path) -> int:
    try:
        return sum(entry.stat().st_size for entry in folder.iterdir())
    except OSError:
        return 0


def check_download(
    path_or_id: str,
    sizes: Mapping[str, int],
    *,
    free_bytes: int,
    missing_bytes: int | None = None,
    several: bool = False,
) -> None:
    """Raise SeveralDictionaries for more than one folder of weights, DiskTooSmall for more bytes than there is room."""
    folders = _folders_of_weights(sizes)
    if len(folders) > 1 and not several:
        raise SeveralDictionaries(
            f"{path_or_id} has weights in {len(folders)} folders.",
            f"Name one: {path_or_id.partition(':')[0]}:FOLDER.",
            suggestions=[f"{path_or_id.partition(':')[0]}:{folder}" for folder in folders[:MAX_SUGGESTIONS]],
        )
    needed = sum(sizes.values()) if missing_bytes is None else missing_bytes
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
