"""What text lies at a place: files, bytes, and which of them give documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import structlog

from features.looks.amounts import Amount, amount_of, amount_of_dataset
from features.models import Corpus
from features.services.checks import path_of
from features.services.corpora import split_by_name
from features.texts.copies import PARQUET
from features.texts.datasets import LIMIT, DatasetUnavailable, files_of_dataset
from features.texts.finding import HUB, UNSTORABLE, files_of, is_storable
from features.texts.lines import SUFFIXES
from features.words import slugify, storable
from inference.errors import InvalidInput, NotFound, using_paths

log = structlog.get_logger(__name__)

MAX_FILES = 200_000
SHOWN = 12
# Enough of a file to see that it is not text.
_HEAD_BYTES = 4096
_LOOKED_INTO = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFile:
    """A file: `kind` is text, which is one document, or lines of JSON or Parquet, which are one for each row.

    `problem` says why it would be skipped, as far as its beginning shows.
    """

    name: str
    n_bytes: int
    split: str
    kind: str = "text"
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusLook:
    """What a look found: `n_test` of `n_files` would be held out; `n_odd` of the first `n_looked_into` are no text.

    `n_tables` files hold a document in each row; `is_dataset` is one of a hub, of which only the files are counted.
    Documents, bytes of text and tokens are estimated from the beginnings of files; None where these do not tell. Of a
    dataset they are those of the first `limit` documents, whose copy takes `n_copied_bytes` of disk.
    """

    path: str
    glob: str
    field: str
    name: str
    slug: str
    n_files: int
    n_bytes: int
    n_test: int
    n_tables: int
    n_looked_into: int
    n_odd: int
    files: tuple[FoundFile, ...]
    is_dataset: bool = False
    known: str = ""
    n_documents: int | None = None
    n_text_bytes: int | None = None
    n_tokens: int | None = None
    limit: int = LIMIT
    n_copied_bytes: int | None = None


@using_paths()
def look_at_corpus(path: str, *, glob: str = "", field: str = "", name: str = "", limit: int = LIMIT) -> CorpusLook:
    """Say which files of a folder match, or that a single file is there; of a dataset, what `limit` documents take.

    Raises InvalidInput for an empty path, a pattern that is none or more than MAX_FILES, NotFound for no folder or
    no file that matches, and for a dataset that the hub does not know.
    """
    path, name = path_of(path), name.strip()
    if path.startswith(HUB):
        return _dataset(path, field=field or "text", name=name, limit=limit)
    here = Path(path)
    found = corpus_files(here, glob)
    root = here if here.is_dir() else here.parent
    looked = [_file(root, file) for file in found[:_LOOKED_INTO]]
    texts = [file.relative_to(root).as_posix() for file in found if _kind(file) == "text"]
    n_odd, n_texts = sum(bool(file.problem) for file in looked), sum(file.kind == "text" for file in looked)
    amount = amount_of(found, field=field or "text", share_of_texts=1 - n_odd / n_texts if n_texts else 1.0)
    name = name or here.stem
    slug = slugify(name)
    return CorpusLook(
        path=path,
        glob=glob,
        field=field or "text",
        name=name,
        slug=slug,
        n_files=len(found),
        n_bytes=sum(file.stat().st_size for file in found),
        n_test=sum(split_by_name(text) == "test" for text in texts),
        n_tables=len(found) - len(texts),
        n_looked_into=len(looked),
        n_odd=n_odd,
        files=tuple(sorted(looked, key=lambda file: (not file.problem, file.name))[:SHOWN]),
        known=_known(slug),
        **_said(amount),
    )


def _dataset(path: str, *, field: str, name: str, limit: int) -> CorpusLook:
    """Say what the hub tells of a dataset, and nothing of its amount where the hub does not answer."""
    sizes: Sequence[int | None] = ()
    amount = None
    try:
        files = files_of_dataset(path.removeprefix(HUB))
        sizes = list(files.sizes.values())
        amount = amount_of_dataset(files, field=field, limit=limit)
    except DatasetUnavailable as error:
        # The run that adds the dataset says so.
        log.info("The amount of a dataset is not known.", path=path, cause=error.cause)
    name = name or path.rpartition("/")[2].partition("@")[0]
    slug = slugify(name)
    return CorpusLook(
        path=path,
        glob="",
        field=field,
        name=name,
        slug=slug,
        n_files=len(sizes),
        n_bytes=sum(size or 0 for size in sizes),
        n_test=0,
        n_tables=len(sizes),
        n_looked_into=0,
        n_odd=0,
        files=(),
        is_dataset=True,
        limit=limit,
        known=_known(slug),
        n_copied_bytes=None if amount is None else round(amount.n_row_bytes),
        **_said(amount),
    )


def _known(slug: str) -> str:
    return f"/corpora/{slug}" if Corpus.objects.filter(slug=slug).exists() else ""


def _said(amount: Amount | None) -> dict[str, int]:
    if amount is None:
        return {}
    return {
        "n_documents": round(amount.n_documents),
        "n_text_bytes": round(amount.n_bytes),
        "n_tokens": round(amount.n_tokens),
    }


def corpus_files(here: Path, glob: str) -> list[Path]:
    """Return the files of a folder that match a pattern, in order of their paths, without links that lead out of it.

    Raises what look_at_corpus does.
    """
    if here.is_file():
        return [here]
    root = here.resolve()
    files = (file for file in files_of(here, glob) if file.resolve().is_relative_to(root))
    try:
        found = list(islice(files, MAX_FILES + 1))
    except (ValueError, NotImplementedError) as error:
        raise InvalidInput(
            f"{glob[:80]!r} is not a pattern of files.", "Write one such as **/*.txt, relative to the folder."
        ) from error
    if len(found) > MAX_FILES:
        raise InvalidInput(
            f"More than {MAX_FILES:,} files match.", "Narrow the pattern, or join small files to fewer large ones."
        )
    if not found:
        raise NotFound(
            f"No file in {here} matches {glob or 'anything'!r}.", "Use a pattern such as **/*.txt.", path=str(here)
        )
    return sorted(found)


def _kind(file: Path) -> str:
    suffix = file.suffix.lower()
    return "lines of JSON" if suffix in SUFFIXES else "Parquet" if suffix in PARQUET else "text"


def _file(root: Path, file: Path) -> FoundFile:
    name, kind = file.relative_to(root).as_posix(), _kind(file)
    return FoundFile(
        name=storable(name),
        n_bytes=file.stat().st_size,
        split=split_by_name(name) if kind == "text" else "by row",
        kind=kind,
        problem=_problem(file) if kind == "text" else "",
    )


def _problem(file: Path) -> str:
    if not is_storable(file):
        return UNSTORABLE
    try:
        with file.open("rb") as opened:
            head = opened.read(_HEAD_BYTES)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if not head:
        return "empty"
    if b"\0" in head:
        return "binary"
    try:
        head.decode("utf-8", errors="strict")
    except UnicodeDecodeError as error:
        # The end may cut a character in two.
        if error.start < len(head) - 4:
            return "not UTF-8"
    return ""
