"""The ASGI application that uvicorn serves."""

import asyncio
import gc
import os
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import django
from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, ASGIRequest, get_script_prefix
from django.core.signals import request_started
from django.db import close_old_connections
from django.http import HttpRequest, HttpResponseBase
from django.urls import get_resolver, set_script_prefix

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "explorer.settings")
# More pages than this wait for a thread, not for a connection to Postgres, of which there are fewer.
THREADS = 32
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]


class Application(ASGIHandler):
    """Django's handler, which changes over to a thread once a request, and to one that stays.

    Pages are synchronous, and so is most middleware. Left to itself Django makes a thread for every request, whose
    memory has to be asked of the system anew, and changes between it and the event loop for every middleware and
    signal: that took longer than the page. A stream still runs on the event loop: its view only returns it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="page")

    def load_middleware(self, is_async: bool = False) -> None:
        """Build the chain of middleware for a thread, whatever is asked."""
        super().load_middleware(is_async=False)

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        if scope["type"] != "http":
            raise ValueError(f"Facet serves HTTP, not {scope['type']}.")
        try:
            body = await self.read_body(receive)
        except RequestAborted:
            return
        set_script_prefix(get_script_prefix(scope))
        request, refusal = self.create_request(scope, body)
        try:
            if request is None:
                await self.send_response(cast(HttpResponseBase, refusal), send)
                return
            answer = sync_to_async(self._answer, thread_sensitive=False, executor=self._threads)
            response = await answer(request, scope)
            if response.streaming:
                async with ThreadSensitiveContext():
                    await self._stream(response, receive, send)
            else:
                await self.send_response(response, send)
        finally:
            body.close()

    async def get_response_async(self, request: HttpRequest) -> HttpResponseBase:
        """Answer in a thread; Django's test client asks in this way."""
        return await sync_to_async(self.get_response, thread_sensitive=True)(request)

    def _answer(self, request: ASGIRequest, scope: dict[str, Any]) -> HttpResponseBase:
        """Return the response from start to end of the request; only a stream is still to be closed."""
        request_started.send(sender=self.__class__, scope=scope)
        response = self.get_response(request)
        response._handler_class = self.__class__  # type: ignore[attr-defined]
        if response.streaming:
            close_old_connections()
        else:
            response.close()
        return response

    async def _stream(self, response: HttpResponseBase, receive: Receive, send: Send) -> None:
        """Send a stream until it ends or the reader goes, then close it."""
        sending = asyncio.create_task(self.send_response(response, send))
        leaving: asyncio.Future[Mapping[str, Any]] = asyncio.ensure_future(receive())
        try:
            await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, leaving):
                task.cancel()
            outcomes = await asyncio.gather(sending, leaving, return_exceptions=True)
            await sync_to_async(response.close)()
        if isinstance(outcomes[0], Exception):
            raise outcomes[0]


django.setup(set_prefix=False)
application = Application()


def served() -> Application:
    """Return the application for a process that does nothing but serve it: what `uvicorn --factory` calls."""
    get_resolver().url_patterns  # noqa: B018 - loads every view
    # A page makes tens of thousands of objects that go with it: to look for cycles after every 700 costs it a twelfth.
    # And what is there before the first page stays: not to look through it takes the longest pauses out.
    gc.set_threshold(50_000, 20, 100)
    gc.collect()
    gc.freeze()
    return application
