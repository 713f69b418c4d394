"""The ASGI application that uvicorn serves."""

import gc
import os

import django
from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpRequest, HttpResponseBase

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "explorer.settings")


class Application(ASGIHandler):
    """Django's handler, which changes over to a thread once a request.

    Pages are synchronous, and so is some middleware. Left to itself Django changes between the event loop and a thread
    before and after every middleware, which took a quarter of a page's time. A stream still runs on the event loop:
    its view only returns it.
    """

    def load_middleware(self, is_async: bool = False) -> None:
        """Build the chain of middleware for a thread, whatever is asked."""
        super().load_middleware(is_async=False)

    async def get_response_async(self, request: HttpRequest) -> HttpResponseBase:
        """Answer in the request's own thread."""
        return await sync_to_async(self.get_response, thread_sensitive=True)(request)


django.setup(set_prefix=False)
application = Application()
# A page makes tens of thousands of objects that go with it: to look for cycles after every 700 costs it a twelfth.
gc.set_threshold(50_000, 20, 100)
