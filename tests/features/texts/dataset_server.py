"""A hub on this machine that holds one dataset at one commit and gives those parts of its files that are asked for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "f00dbabe" * 5
BRANCH = "main"


@dataclass(slots=True)
class Served:
    """What the hub gave: bytes of files, and where each piece began. Above `most` bytes it gives no more."""

    url: str = ""
    n_bytes: int = 0
    begins: list[tuple[str, int]] = field(default_factory=list)
    most: float = float("inf")


@contextmanager
def serving_dataset(name: str, folder: Path) -> Iterator[Served]:
    """Serve the files of a folder as a dataset."""
    served = Served()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer()

        do_HEAD = do_POST = do_GET

        def _answer(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            path = unquote(urlsplit(self.path).path)
            api, files = f"/api/datasets/{name}", f"/datasets/{name}/resolve/"
            if path.startswith(files):
                revision, _, file = path.removeprefix(files).partition("/")
                self._give(revision, folder / file, file)
            elif path in (api, f"{api}/revision/{BRANCH}", f"{api}/revision/{COMMIT}"):
                siblings = [{"rfilename": entry["path"], "size": entry["size"]} for entry in _entries(folder)]
                self._say({"id": name, "sha": COMMIT, "siblings": siblings})
            elif path.startswith(f"{api}/revision/"):
                self._refuse(404, "RevisionNotFound")
            elif path == f"{api}/paths-info/{COMMIT}":
                asked = json.loads(sent)["paths"] if sent.startswith("{") else parse_qs(sent)["paths"]
                asked = [asked] if isinstance(asked, str) else asked
                self._say([entry for entry in _entries(folder) if entry["path"] in asked])
            elif path.startswith(f"{api}/tree/{COMMIT}"):
                self._say(_entries(folder))
            else:
                self._refuse(404, "RepoNotFound")

        def _give(self, revision: str, path: Path, file: str) -> None:
            if revision not in (COMMIT, BRANCH) or not path.is_file():
                self._refuse(404, "EntryNotFound")
                return
            body = path.read_bytes()
            first, last = 0, len(body) - 1
            if match := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
                first, last = int(match[1]), min(int(match[2] or last), last)
            piece = body[first : last + 1]
            if self.command != "HEAD":
                if served.n_bytes + len(piece) > served.most:
                    self._refuse(403, "GatedRepo")
                    return
                served.n_bytes += len(piece)
                served.begins.append((file, first))
            headers = {"ETag": f'"{COMMIT}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
            self._send(206, piece, headers | {"Content-Range": f"bytes {first}-{last}/{len(body)}"})

        def _say(self, answer: object) -> None:
            self._send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

        def _refuse(self, status: int, code: str) -> None:
            self._send(status, b"{}", {"X-Error-Code": code})

        def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for key, value in (headers | {"Content-Length": str(len(body))}).items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _entries(folder: Path) -> list[dict]:
    return [
        {"type": "file", "path": path.relative_to(folder).as_posix(), "size": path.stat().st_size, "oid": COMMIT}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
