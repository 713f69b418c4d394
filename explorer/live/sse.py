"""Server-Sent Events: framing, and the response that streams them."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from django.http import StreamingHttpResponse

from explorer.live.events import follow
from inference.errors import FacetError

RETRY_MILLISECONDS = 1000
COMMENT = ": alive\n\n"


def frame(event: str, data: str, *, id: str = "") -> str:
    """Return one event of the stream; every line of `data` gets a line of its own."""
    lines = [f"id: {id}"] if id else []
    lines.append(f"event: {event}")
    lines += [f"data: {line}" for line in data.split("\n")]
    return "\n".join(lines).replace("\r", "") + "\n\n"


def opening() -> str:
    """Return what tells the browser how soon to reconnect."""
    return f"retry: {RETRY_MILLISECONDS}\n\n"


async def job_frames(job: str, *, last_id: str, timeout: float | None = None) -> AsyncGenerator[str]:
    """Yield the frames of a job's events; an error that ends the reading is the last one."""
    yield opening()
    try:
        async with aclosing(follow(job, last_id=last_id, timeout=timeout)) as events:
            async for event in events:
                data = json.dumps(event.data, ensure_ascii=False, separators=(",", ":"))
                yield frame(event.name, data, id=event.id) if event.name else COMMENT
    except FacetError as error:
        yield frame("error", json.dumps(error.as_dict(), ensure_ascii=False))


class EventStream(StreamingHttpResponse):
    """A stream that closes its source when its reader goes, wherever that finds it.

    Django leaves the source to garbage collection, which may come much later than what is to happen then.
    """

    def __init__(self, frames: AsyncGenerator[str], **options: Any) -> None:
        super().__init__(frames, **options)
        self._frames = frames

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async with aclosing(self._frames) as frames:
            async for one in frames:
                yield self.make_bytes(one)


def event_stream(frames: AsyncGenerator[str]) -> EventStream:
    """Return the response, which is neither cached, buffered by proxies nor compressed: each would hold events back."""
    return EventStream(
        frames,
        content_type="text/event-stream; charset=utf-8",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no", "Content-Encoding": "identity"},
    )
