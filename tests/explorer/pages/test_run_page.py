"""A run's page: its shards, the workers that share it, what failed; and the errors on a dictionary's page."""

from __future__ import annotations

import time
from importlib import import_module
from types import SimpleNamespace

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from django.utils import timezone

from explorer import charts
from explorer.api.auth import make_token
from explorer.shard_cells import shard_cells
from features import selectors, services
from features.models import Run, Shard
from features.results import Histogram
from features.run_results import ShardCard
from features.selectors.sources import error_histogram

pytestmark = pytest.mark.django_db


@pytest.fixture
def run():
    """A running build of six shards: two made, one in work, one waiting, one failed, one made before."""
    row = Run.objects.create(
        kind="build", title="Build tiny: 1-res", state="running", phases=["read", "encode"], heartbeat_at=timezone.now()
    )
    full = {"name": "one", "error": "No space left on device: '<b>disk</b>'"}
    lost = [{"worker": "two", "error": "The worker was lost.", "at": time.time() - 9}]
    failed = [{"worker": full["name"], "error": full["error"], "at": time.time()}]
    for number, (state, worker, done, failures) in enumerate(
        [
            ("done", "one", 100, []),
            ("done", "two", 100, lost),
            ("running", "one", 40, []),
            ("waiting", "", 0, []),
            ("waiting", "one", 0, failed),
            ("done", "", 100, []),
        ]
    ):
        Shard.objects.create(
            run=row, number=number, state=state, worker=worker, n_tokens=100, done=done, failures=failures
        )
    return row


def test_shards_are_told_apart_with_attempts_and_workers(run, django_assert_num_queries):
    with django_assert_num_queries(3):
        shards = selectors.run(run.pk).shards
    assert [shard.state for shard in shards.shards] == ["made", "made", "in work", "waiting", "failed", "made"]
    assert [shard.attempts for shard in shards.shards] == [1, 2, 1, 0, 1, 0]
    assert [shard.worker for shard in shards.shards] == ["one", "two", "one", "", "", ""]
    assert (shards.n_shards, shards.made, shards.in_work, shards.waiting, shards.failed) == (6, 3, 1, 1, 1)
    one, two = shards.workers
    assert (one.name, one.made, one.tokens, one.at_work_on, one.failures) == ("one", 1, 140, (2,), 1)
    assert (two.name, two.made, two.tokens, two.at_work_on, two.failures) == ("two", 1, 100, (), 1)
    assert [failure.error[:2] for _, failure in shards.failures] == ["Th", "No"]


def test_nothing_is_in_work_once_the_run_is_over(run):
    services.runs.stop(run=run.pk)
    shards = selectors.run(run.pk).shards
    assert (shards.in_work, shards.waiting) == (0, 2)
    assert not any(worker.at_work_on for worker in shards.workers)


def test_the_page_and_the_api_show_them(run, client):
    page = client.get(f"/runs/{run.pk}").content.decode()
    assert "3 made" in page
    assert 'href="/runs">Runs</a>' in page and 'aria-current="page">Runs' in page
    assert "1 in work" in page
    assert "&lt;b&gt;disk&lt;/b&gt;" in page
    assert "<b>disk</b>" not in page
    assert page.count("<g><title>") == 6
    told = client.get(f"/api/v1/runs/{run.pk}").json()["shards"]
    assert [shard["state"] for shard in told["shards"]][2:5] == ["in work", "waiting", "failed"]
    assert told["shards"][4]["failures"][0]["worker"] == "one"
    listed = client.get("/api/v1/runs").json()
    assert listed[0]["shards"] is None


@pytest.mark.parametrize(("name", "may"), [("curie", True), ("hopper", False), ("noether", True)])
def test_only_who_started_it_and_staff_may_stop_and_resume_it(run, name, may):
    make = get_user_model().objects.create_user
    people = {"curie": make("curie"), "hopper": make("hopper"), "noether": make("noether", is_staff=True)}
    # Of a kind that can be resumed without a dictionary.
    Run.objects.filter(pk=run.pk).update(created_by=people["curie"], kind="export")
    client = Client()
    client.force_login(people[name])
    headers = {"Authorization": f"Bearer {make_token(people[name])}"}
    page = client.get(f"/runs/{run.pk}").content.decode()
    assert (f'action="/runs/{run.pk}/cancel"' in page) is may
    assert ("curie, or somebody with staff status, can stop it" in " ".join(page.split())) is not may
    assert client.post(f"/runs/{run.pk}/cancel").status_code == (302 if may else 403)
    assert Run.objects.get(pk=run.pk).cancel_requested is may
    Run.objects.filter(pk=run.pk).update(cancel_requested=False)
    told = Client().post(f"/api/v1/runs/{run.pk}/cancel", headers=headers)
    assert told.status_code == (200 if may else 403)
    assert told.json()["started_by"] == "curie" if may else told.json()["error"]["code"] == "not-allowed"
    services.runs.stop(run=run.pk)
    assert (f'action="/runs/{run.pk}/resume"' in client.get(f"/runs/{run.pk}").content.decode()) is may
    assert client.post(f"/runs/{run.pk}/resume").status_code == (302 if may else 403)
    services.runs.stop(run=run.pk)
    assert Client().post(f"/api/v1/runs/{run.pk}/resume", headers=headers).status_code == (200 if may else 403)


def test_visitors_are_asked_to_sign_in(run, client):
    assert "Sign in</a> to stop it" in client.get(f"/runs/{run.pk}").content.decode()
    assert client.post(f"/runs/{run.pk}/cancel").url.startswith("/accounts/login")
    assert not Run.objects.get(pk=run.pk).cancel_requested


def test_phases_say_how_far_it_is(run):
    Run.objects.filter(pk=run.pk).update(phase="encode")
    assert selectors.run(run.pk).steps == (("read", "done"), ("encode", "now"))
    services.runs.stop(run=run.pk)
    assert selectors.run(run.pk).steps == (("read", "done"), ("encode", ""))
    Run.objects.filter(pk=run.pk).update(state="done")
    assert {step for _, step in selectors.run(run.pk).steps} == {"done"}


def test_a_run_without_shards_shows_none(client):
    row = Run.objects.create(kind="export", title="Export")
    assert selectors.run(row.pk).shards is None
    assert "shard-cells" not in client.get(f"/runs/{row.pk}").content.decode()


def test_of_very_many_shards_those_with_something_to_tell_are_kept(run, monkeypatch):
    monkeypatch.setattr(import_module("features.selectors.runs"), "LISTED_SHARDS", 1)
    shards = selectors.run(run.pk).shards
    assert [shard.number for shard in shards.shards] == [0, 2, 4]
    assert shards.n_shards == 6


def test_cells_are_filled_as_far_as_they_are_made():
    def card(number: int, state: str, done: int = 0) -> ShardCard:
        return ShardCard(number=number, state=state, n_tokens=100, done=done, worker="", attempts=0)

    svg = shard_cells([card(0, "made"), card(1, "in work", 40), *(card(n, "waiting") for n in range(2, 100))])
    assert svg.count('class="waiting"') == 98
    assert 'class="part" x="12" y="6.0" width="10" height="4.0"' in svg
    assert 'y="24"' in svg  # a third row
    assert "shard 2: in work, 40 of 100 tokens" in svg


def test_errors_are_drawn_on_a_linear_axis_with_their_median():
    histogram = Histogram(edges=(0.0, 0.1, 0.2, 0.3), counts=(10, 30, 0))
    chart = charts.token_chart(histogram)
    assert [bar.height for bar in chart.bars] == [pytest.approx(33.33), 100.0, 0.0]
    assert charts.median_of(histogram) == pytest.approx(0.1 + 0.1 / 3)


def test_the_axis_of_errors_ends_where_the_last_token_is():
    def of(*bins: int) -> Histogram | None:
        counts = [0] * 100
        for bin_ in bins:
            counts[bin_] = 5
        return error_histogram(SimpleNamespace(stats={"error_histogram": counts}))

    assert of() is None
    assert error_histogram(SimpleNamespace(stats={})) is None
    assert of(3).edges[-1] == 0.5
    assert of(3, 61).edges[-1] == pytest.approx(0.7)
    assert of(99).edges[-1] == 1.0
    assert sum(of(3, 61).counts) == 10
