"""A hub on this machine: what a client of the Hugging Face hub asks for, answered from a folder over HTTP.

It serves one repository at one commit, as huggingface_hub asks: the commit's files with their sizes, and each file
under `resolve` with the headers that the client's cache is keyed by.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

COMMIT = "c0ffee00" * 5


@contextmanager
def serving(repository: str, folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the hub's address and the list of requests, which grows as they come."""
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, *, with_body: bool) -> None:
            path = urlsplit(self.path).path
            requests.append(f"{self.command} {path}")
            file = folder / path.removeprefix(f"/{repository}/resolve/{COMMIT}/")
            if path.startswith(f"/api/models/{repository}"):
                answer = _tree(folder) if "/tree/" in path else _listing(repository, folder)
                body, headers = json.dumps(answer).encode(), {"Content-Type": "application/json"}
            elif path.startswith(f"/{repository}/resolve/{COMMIT}/") and file.is_file():
                body = file.read_bytes()
                headers = {"ETag": f'"{hashlib.sha256(body).hexdigest()}"', "X-Repo-Commit": COMMIT}
            else:
                body, headers = b"{}", {"X-Error-Code": "RepoNotFound"}
            self.send_response(404 if "X-Error-Code" in headers else 200)
            for name, value in (headers | {"Content-Length": str(len(body))}).items():
                self.send_header(name, value)
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", requests
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _tree(folder: Path) -> list[dict]:
    return [
        {"type": "file", "path": path.relative_to(folder).as_posix(), "size": path.stat().st_size, "oid": COMMIT}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]


def _listing(repository: str, folder: Path) -> dict:
    siblings = [{"rfilename": file["path"], "size": file["size"], "blobId": COMMIT} for file in _tree(folder)]
    return {"id": repository, "modelId": repository, "sha": COMMIT, "siblings": siblings}
