"""A web server on this machine that serves files in the ways, good and bad, in which servers do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Server:
    """What a server does with files, and what it was asked for: path, range asked for, status."""

    root: Path
    url: str = ""
    cuts: int = 0  # how many times it closes the connection in the middle of a large file
    shows_folders: bool = True
    knows_ranges: bool = True
    lies_by: int = 0  # bytes that it announces and does not have
    stalls_at: str = ""  # the end of a path: it sends half of that file, and the rest when `may_go_on` is set
    has_stalled: threading.Event = field(default_factory=threading.Event)
    may_go_on: threading.Event = field(default_factory=threading.Event)
    asked: list[tuple[str, str, int]] = field(default_factory=list)

    def gets(self, name: str) -> list[tuple[str, int]]:
        return [(ranged, status) for path, ranged, status in self.asked if path.endswith(name)]


class Handler(SimpleHTTPRequestHandler):
    """Files with an ETag and ranges, as object stores and web servers serve them."""

    def __init__(self, *args, server_state: Server, **kwargs) -> None:
        self.state = server_state
        super().__init__(*args, directory=str(server_state.root), **kwargs)

    def log_message(self, *args) -> None:
        pass

    def log_request(self, code="-", size="-") -> None:
        self.state.asked.append((self.path, self.headers.get("Range", ""), int(code)))

    def list_directory(self, path):
        if self.state.shows_folders:
            return super().list_directory(path)
        self.send_error(403)
        return None

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            super().do_GET()
            return
        data, status = path.read_bytes(), path.stat()
        version = f'"{status.st_size}-{status.st_mtime_ns}"'
        if self.headers.get("If-None-Match") == version:
            self.send_response(304)
            self.end_headers()
            return
        start = 0
        ranged = self.headers.get("Range")
        if ranged and self.state.knows_ranges and self.headers.get("If-Range") == version:
            start = int(ranged.removeprefix("bytes=").removesuffix("-"))
        self.send_response(206 if start else 200)
        self.send_header("ETag", version)
        self.send_header("Content-Length", str(len(data) - start + self.state.lies_by))
        self.end_headers()
        body = data[start:]
        if self.state.cuts and len(body) > 5000:
            self.state.cuts -= 1
            body = body[: len(body) // 2]
        if self.state.stalls_at and self.path.endswith(self.state.stalls_at):
            half = len(body) // 2
            self.wfile.write(body[:half])
            self.wfile.flush()
            self.state.has_stalled.set()
            self.state.may_go_on.wait()
            body = body[half:]
        self.wfile.write(body)
        self.close_connection = True


@contextmanager
def serving(root: Path) -> Iterator[Server]:
    """Serve a folder while the context lasts."""
    state = Server(root=root)
    running = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, server_state=state))
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{running.server_port}"
    try:
        yield state
    finally:
        state.may_go_on.set()
        running.shutdown()
        running.server_close()
