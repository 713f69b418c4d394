"""Server-Sent Events: framing, and the response that streams them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

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


async def job_frames(job: str, *, last_id: str, timeout: float | None = None) -> AsyncIterator[str]:
    """Yield the frames of a job's events; an error that ends the reading is the last one."""
    yield opening()
    try:
        async for event in follow(job, last_id=last_id, timeout=timeout):
            data = json.dumps(event.data, ensure_ascii=False, separators=(",", ":"))
            yield frame(event.name, data, id=event.id) if event.name else COMMENT
    except FacetError as error:
        yield frame("error", json.dumps(error.as_dict(), ensure_ascii=False))


def event_stream(frames: AsyncIterator[str]) -> StreamingHttpResponse:
    """Return the response, which is neither cached, buffered by proxies nor compressed: each would hold events back."""
    return StreamingHttpResponse(
        frames,
        content_type="text/event-stream; charset=utf-8",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no", "Content-Encoding": "identity"},
    )
