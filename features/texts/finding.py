"""From a place to documents: a folder, a file, or a dataset's id on a hub."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from features.services.corpora import NewDocument
from features.texts import copies, datasets, lines
from features.texts.skips import Skips
from features.words import storable
from inference.errors import NotFound

# What lies beside source code and is not of it.
_NOT_SOURCES = frozenset({"__pycache__", "node_modules", "venv", "site-packages"})
_HEAD_BYTES = 4096
HUB = "hub:"
UNSTORABLE = "of a name that is not UTF-8"


def documents_of(
    place: str,
    *,
    skips: Skips,
    glob: str = "",
    field: str = "text",
    limit: int = datasets.LIMIT,
    copies_at: Path,
    told: datasets.Told | None = None,
) -> Iterator[NewDocument]:
    """Yield the documents of a place, in order of their names.

    `hub:OWNER/NAME@REVISION` is a dataset, of which at most `limit` documents are copied; `told` hears how many are,
    and may stop that. Without a pattern, hidden folders and those of packages and build outputs are left out. Raises
    NotFound, InvalidInput, and what copies and datasets raise.
    """
    if place.startswith(HUB):
        name = place.removeprefix(HUB)
        path = datasets.of_dataset(name, field=field, limit=limit, copies_at=copies_at, skips=skips, told=told)
        yield from lines.documents_of_lines(path, name.partition("@")[0], field, skips)
        return
    here = Path(place).expanduser()
    files = list(files_of(here, glob))
    if not files:
        raise NotFound(f"No file in {here} matches {glob or 'anything'!r}.", "Use a pattern such as **/*.txt.")
    root = here if here.is_dir() else here.parent
    yield from documents_in(files, root, skips=skips, field=field, copies_at=copies_at)


def documents_in(
    files: Iterable[Path], root: Path, *, skips: Skips, field: str = "text", copies_at: Path
) -> Iterator[NewDocument]:
    """Yield the documents of files, named by their paths below a folder."""
    for path in files:
        name = storable(path.relative_to(root).as_posix())
        if not is_storable(path):
            skips.add(name, UNSTORABLE)
        elif path.suffix.lower() in lines.SUFFIXES:
            yield from lines.documents_of_lines(path, name, field, skips)
        elif path.suffix.lower() in copies.PARQUET:
            copied = copies.of_parquet(path, field=field, copies_at=copies_at)
            yield from lines.documents_of_lines(copied, name, field, skips)
        elif reason := _objection(path):
            skips.add(name, reason)
        else:
            yield NewDocument(name=name, path=path)


def files_of(here: Path, glob: str) -> Iterator[Path]:
    """Yield the file itself, or the files of a folder that match; raise NotFound for neither."""
    if here.is_file():
        yield here
        return
    if not here.is_dir():
        raise NotFound(f"There is no folder {here}.", "Give the folder or the file that holds the text.")
    if glob:
        yield from sorted(path for path in here.glob(glob) if path.is_file())
        return
    for folder, folders, files in os.walk(here):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _NOT_SOURCES)
        paths = (Path(folder) / name for name in sorted(files) if not name.startswith("."))
        # Whoever opens a pipe waits for its writer.
        yield from (path for path in paths if path.is_file())


def is_storable(path: Path) -> bool:
    """Tell whether Postgres can hold a path: names of files may be any bytes."""
    return storable(str(path)) == str(path)


def _objection(path: Path) -> str:
    """Say why a file is no document, as far as its beginning shows; a build looks at the rest."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return "unreadable"
    if b"\0" in head:
        return "binary"
    return "" if head else "empty"
