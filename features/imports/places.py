"""From what somebody names to a folder: a folder as it is, an archive unpacked with care, a URL fetched first."""

from __future__ import annotations

import json
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from features.imports.fetching import SPARE_BYTES, fetched
from features.services.imports import SCHEMES
from inference.errors import InvalidInput, NotFound

_BLOCK = 1 << 20
# What an archive may unpack to, as a multiple of its size: JSON compresses well, but not without limit.
_MOST_TIMES = 200
Tell = Callable[[int, int], None]


class BadArchive(InvalidInput):
    """An archive that cannot be unpacked, or that must not be."""

    code = "bad-archive"


def folder_of(place: str, workdir: Path, tell: Tell) -> Path:
    """Return the folder that a place names; unpack or fetch it into `workdir` unless that is done already.

    `tell` is told bytes done and in all. Raises NotFound, BadArchive, Unavailable.
    """
    path = Path(place)
    if place.startswith(SCHEMES):
        path = fetched(place, workdir / "fetched", tell)
    if path.is_dir():
        return path
    if not path.is_file():
        raise NotFound(f"There is nothing at {place}.", "Give a path on the machine of the workers.", path=place)
    return _unpacked(path, workdir / "unpacked", tell)


def _unpacked(archive: Path, folder: Path, tell: Tell) -> Path:
    """Unpack an archive; the folder appears under its name when it is complete."""
    status = archive.stat()
    origin = {"path": str(archive), "bytes": status.st_size, "modified": status.st_mtime_ns}
    note = folder.with_suffix(".json")
    if folder.is_dir() and note.is_file() and json.loads(note.read_text()) == origin:
        return folder
    scratch = folder.with_suffix(".part")
    for old in (scratch, folder):
        shutil.rmtree(old, ignore_errors=True)
    scratch.mkdir(parents=True)
    most = min(_MOST_TIMES * max(status.st_size, _BLOCK), shutil.disk_usage(scratch).free - SPARE_BYTES)
    done = 0
    try:
        for name, member in _members(archive):
            target = scratch / _safe(name)
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as out:
                while block := member.read(_BLOCK):
                    done += len(block)
                    if done > most:
                        raise BadArchive(
                            f"{archive.name} unpacks to more than {most:,} bytes.",
                            "Unpack it yourself where there is room, and import the folder.",
                        )
                    out.write(block)
                    tell(done, max(done, status.st_size))
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, FileExistsError) as error:
        why = "it names a file twice" if isinstance(error, FileExistsError) else str(error) or "it ends too early"
        raise BadArchive(f"{archive.name} cannot be unpacked: {why}.", "Fetch or write the archive again.") from error
    note.write_text(json.dumps(origin))
    os.replace(scratch, folder)
    return folder


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield the names and contents of the regular files of an archive; links and devices are refused."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            for entry in opened.infolist():
                if stat.S_ISLNK(entry.external_attr >> 16):
                    raise _refused(entry.filename, "a link")
                if not entry.is_dir():
                    _safe(entry.filename)
                    with opened.open(entry) as member:
                        yield entry.filename, member
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            for info in tar:
                if info.isdir():
                    continue
                _safe(info.name)
                member = tar.extractfile(info) if info.isreg() else None
                if member is None:
                    raise _refused(info.name, "a link or a device")
                yield info.name, member
    else:
        raise BadArchive(
            f"{archive.name} is neither a tar nor a zip archive.", "Give a folder, or an archive of one of these kinds."
        )


def _safe(name: str) -> PurePosixPath:
    """Return a member's path; refuse one that leads out of the folder."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in (path.parts or ("",))[0] or "\0" in name or not path.parts:
        raise _refused(name, "a path that leads out of the archive")
    return path


def _refused(name: str, what: str) -> BadArchive:
    return BadArchive(
        f"The archive holds {what}: {name[:200]!r}.", "Nothing of it was imported. Ask who made it.", member=name[:200]
    )
