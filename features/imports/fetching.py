"""Files fetched from a URL: an archive, or a folder in one of the layouts; what is there already is not fetched again.

A folder's files are those that its index page links to, as web servers show folders; without such a page they are
asked for by the names that the export layout gives them, until there is no next one.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from typing import Any

from features.imports.finding import KINDS
from inference.errors import InvalidInput, NotFound, Unavailable

CONNECT_SECONDS = 10
SPARE_BYTES = 512 * 1024**2
MOST_FILES, DEEPEST = 20_000, 6
BLOCK = 1 << 20
_MOST_INDEX = 16 << 20
_MISSING = (http.client.NOT_FOUND, http.client.FORBIDDEN, http.client.GONE)
_ARCHIVE = re.compile(r".+\.(zip|tar|tgz|tar\.\w+)")
_WANTED = re.compile(r"[\w.-]+\.jsonl(\.gz)?|batch-\d+\.json|facet\.json|run_settings\.json|skipped_indexes\.json")
_SMALL = ("source.jsonl", "release.jsonl", "model.jsonl", "sourceset.jsonl", "facet.json")
_ENDINGS = (".jsonl.gz", ".jsonl")
Tell = Callable[[int, int], None]


def fetched(url: str, workdir: Path, tell: Tell) -> Path:
    """Return the archive or the folder that was fetched into `workdir`; `tell` is told bytes done and in all.

    Raises NotFound, InvalidInput, and Unavailable, after which another attempt goes on where this one stopped.
    """
    path = PurePosixPath(urllib.parse.unquote(urllib.parse.urlsplit(url).path))
    name = path.name if path.name.strip(".") else "archive"
    download = _Download(workdir, tell)
    if not _ARCHIVE.fullmatch(name.lower()):
        # A folder's own name and its parent's stay: they are a source and its model where no file names them.
        folder = _Folder(url, "/".join(part for part in path.parts[-2:] if part.strip("./")), download)
        if folder.fetch():
            return workdir
    if not download.file(url, name):
        raise NotFound(f"Nothing to import lies at {url}.", "Check the address.", url=url)
    return workdir / name


class _Download:
    """Fetches files of one import; `fetched.json` notes which version of each is there."""

    def __init__(self, folder: Path, tell: Tell) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._tell = folder, tell
        self._note = folder.with_name("fetched.json")
        self._versions: dict[str, Any] = json.loads(self._note.read_text()) if self._note.is_file() else {}
        self._done = 0

    def file(self, url: str, relative: str) -> bool:
        """Fetch a file unless this version of it is there; return False where there is none."""
        target = self._folder / relative
        partial = target.with_name(f"{target.name}.part")
        while True:
            before = partial.stat().st_size if partial.is_file() else -1
            try:
                return self._fetch(url, relative, target, partial)
            except Unavailable:
                # A connection that broke on the way is opened again; one that gives nothing is not.
                if not (partial.is_file() and partial.stat().st_size > max(before, 0)):
                    raise

    def _fetch(self, url: str, relative: str, target: Path, partial: Path) -> bool:
        known = self._versions.get(relative)
        have = partial.stat().st_size if partial.is_file() else 0
        headers = {}
        if target.is_file() and known:
            headers = {name: known[key] for name, key in _UNCHANGED if known.get(key)}
        elif have and known and (version := known.get("etag") or known.get("modified")):
            # Without the same version behind it, the rest of a file is asked for from the start.
            headers = {"Range": f"bytes={have}-", "If-Range": version}
        try:
            with _open(url, headers) as answer:
                self._write(answer, relative, target, partial, have)
        except urllib.error.HTTPError as error:
            if error.code == http.client.NOT_MODIFIED:
                self._done += target.stat().st_size
                return True
            if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                partial.unlink(missing_ok=True)
                raise Unavailable(f"{url} is shorter than it was.", "Resume the run.") from error
            if error.code in _MISSING:
                return False
            raise Unavailable(f"{url} answers {error.code} {error.reason}.", "Resume the run later.") from error
        except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
            raise _unreachable(url, error) from error
        return True

    def _write(self, answer: Any, relative: str, target: Path, partial: Path, have: int) -> None:
        goes_on = answer.status == http.client.PARTIAL_CONTENT
        here = have if goes_on else 0
        length = answer.headers.get("Content-Length")
        total = here + int(length) if length else None
        version = {"etag": answer.headers.get("ETag"), "modified": answer.headers.get("Last-Modified"), "bytes": total}
        if total is not None and target.is_file() and self._versions.get(relative) == version:
            self._done += total  # a server that does not answer whether a file has changed
            return
        partial.parent.mkdir(parents=True, exist_ok=True)
        if (total or 0) - here > shutil.disk_usage(partial.parent).free - SPARE_BYTES:
            raise InvalidInput(
                f"{relative} has {total:,} bytes, more than the disk holds.", "Make room, then resume the run."
            )
        self._versions[relative] = version
        self._note.write_text(json.dumps(self._versions))
        with partial.open("ab" if goes_on else "wb") as out:
            while block := answer.read(BLOCK):
                out.write(block)
                here += len(block)
                self._tell(self._done + here, self._done + max(here, total or 0))
        if total is not None and here != total:
            raise Unavailable(f"{relative} ended after {here:,} of {total:,} bytes.", "Resume the run.")
        os.replace(partial, target)
        self._done += here


# Headers that ask for a file only if it is another version, with what is noted of it.
_UNCHANGED = (("If-None-Match", "etag"), ("If-Modified-Since", "modified"))


class _Folder:
    """A folder of a web server; its files go below `name`."""

    def __init__(self, url: str, name: str, download: _Download) -> None:
        self._base = url if url.endswith("/") else f"{url}/"
        self._name, self._download = name, download

    def fetch(self) -> bool:
        """Fetch all files; tell whether there are any."""
        indexed = list(self._indexed())
        return all(map(self._file, indexed)) if indexed else self._by_name()

    def _file(self, relative: str) -> bool:
        return self._download.file(f"{self._base}{urllib.parse.quote(relative)}", f"{self._name}/{relative}".strip("/"))

    def _by_name(self) -> bool:
        """Fetch the files of the export layout by their names."""
        found = [self._file(name) for name in _SMALL]
        for kind in KINDS:
            ending = next((ending for ending in _ENDINGS if self._file(f"{kind}/batch-0{ending}")), None)
            found.append(ending is not None)
            number = 1
            while ending and self._file(f"{kind}/batch-{number}{ending}"):
                number += 1
        return any(found)

    def _indexed(self, below: str = "", depth: int = 0) -> Iterator[str]:
        """Yield the files of the layouts that index pages link to, as paths below the folder."""
        page = _page(f"{self._base}{urllib.parse.quote(below)}")
        if page is None or depth > DEEPEST:
            return
        links = _Links()
        links.feed(page)
        if len(links.names) > MOST_FILES:
            raise InvalidInput(f"{self._base}{below} lists more than {MOST_FILES:,} files.", "Name a folder below it.")
        for name in sorted(links.names):
            if name.endswith("/"):
                yield from self._indexed(f"{below}{name}", depth + 1)
            elif _WANTED.fullmatch(name):
                yield f"{below}{name}"


class _Links(HTMLParser):
    """Collects the names that an index page links to in its own folder; others lead out of it."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        name = urllib.parse.unquote(dict(attrs).get("href") or "")
        if tag == "a" and re.fullmatch(r"[\w][\w.-]*/?", name):
            self.names.add(name)


def _page(url: str) -> str | None:
    """Return the index page of a folder; None where the server shows none."""
    try:
        with _open(url, {}) as answer:
            if answer.headers.get_content_type() != "text/html":
                return None
            return answer.read(_MOST_INDEX).decode(errors="replace")
    except urllib.error.HTTPError:
        return None
    except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
        raise _unreachable(url, error) from error


def _open(url: str, headers: dict[str, str]) -> Any:
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=CONNECT_SECONDS)


def _unreachable(url: str, error: Exception) -> Unavailable:
    reason = getattr(error, "reason", error)
    return Unavailable(f"{url} cannot be reached: {reason}.", "Fetch it where there is a network, and import the file.")
