"""Server-Sent Events: a stream closes what it reads from as soon as nobody reads it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from explorer.asgi import application
from explorer.live.sse import event_stream, frame


def test_a_reader_that_goes_while_something_is_sent_closes_the_source():
    closed = []

    async def frames() -> AsyncGenerator[str]:
        try:
            while True:
                yield frame("token", "a")
        finally:
            await asyncio.sleep(0)  # as does who writes to Valkey that he leaves
            closed.append(True)

    async def serve() -> None:
        full = asyncio.Event()
        response = event_stream(frames())

        async def send(message: dict) -> None:
            if message["type"] == "http.response.body":
                full.set()
                await asyncio.Event().wait()  # the reader takes nothing any more

        async def receive() -> dict:
            await full.wait()
            return {"type": "http.disconnect"}

        await application._stream(response, receive, send)
        assert closed, "it waits for garbage collection"
        assert response.streaming

    asyncio.run(serve())
