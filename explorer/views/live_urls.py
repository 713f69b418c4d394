"""Addresses of what is computed live, of runs, and of the JSON API; they come before the `/{model}/...` addresses."""

from __future__ import annotations

from django.urls import path, re_path

from explorer.api import api
from explorer.views import live, prompt, runs, steer, transfers

JOB = r"(?P<job_id>[0-9a-f]{32})"

urlpatterns = [
    path("prompt", prompt.prompt, name="prompt"),
    path("prompt/run", prompt.prompt_run, name="prompt_run"),
    path("steer", steer.steer, name="steer"),
    path("steer/start", steer.steer_start, name="steer_start"),
    re_path(rf"^live/{JOB}/events$", live.live_events, name="live_events"),
    re_path(rf"^live/{JOB}/cancel$", live.live_cancel, name="live_cancel"),
    path("runs", runs.runs, name="runs"),
    path("runs/new", runs.run_create, name="run_create"),
    path("runs/<int:run_id>", runs.run, name="run"),
    path("runs/<int:run_id>/download", transfers.run_download, name="run_download"),
    path("runs/<int:run_id>/events", runs.run_events, name="run_events"),
    path("runs/<int:run_id>/cancel", runs.run_cancel, name="run_cancel"),
    path("runs/<int:run_id>/resume", runs.run_resume, name="run_resume"),
    path("api/v1/", api.urls),
]
