"""The events of live requests, and the request to stop one."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.views.decorators.http import require_POST

from explorer import live
from explorer.live.events import START, parse_last_id
from explorer.live.sse import event_stream, job_frames

FOLLOW_SECONDS = 300.0


async def live_events(request: HttpRequest, job_id: str) -> HttpResponseBase:
    """Stream a job's events; `Last-Event-ID` resumes after the last one seen. 204 tells EventSource that it is over."""
    last_id = parse_last_id(request.headers.get("Last-Event-ID") or request.GET.get("last_id"))
    if last_id != START and await live.is_over(job_id, last_id):
        return HttpResponse(status=204)
    return event_stream(job_frames(job_id, last_id=last_id, timeout=FOLLOW_SECONDS))


@require_POST
def live_cancel(request: HttpRequest, job_id: str) -> HttpResponse:
    """Ask the worker to stop; the stream ends with what there is."""
    live.cancel(job_id)
    return HttpResponse(status=204)
