"""A build from its form to its dashboards, as somebody watches it: progress, stop, resume, and where the result is."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from features import selectors
from features.run_results import RunCard
from tests.processes import Workers
from tests.site import PASSWORD, STAFF
from tests.tiny import tiny_dictionary

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=False)]

SOURCE = "0-res-watched"
STEP_SECONDS, LIMIT_SECONDS = 0.02, 120
MILLISECONDS = 1000 * LIMIT_SECONDS


def step_until(run_id: int, worker: Workers, reached: Callable[[RunCard], bool]) -> RunCard:
    """Let the batch worker go on in small steps until a run is somewhere; it stands still from there on.

    However fast or slow the machine is, the run cannot pass the place between two looks at it.
    """
    process = worker.running["batch"]
    deadline = time.monotonic() + LIMIT_SECONDS
    while not reached(card := selectors.run(run_id)):
        assert card.state in ("queued", "running") and time.monotonic() < deadline, card
        process.send_signal(signal.SIGCONT)
        time.sleep(STEP_SECONDS)
        process.send_signal(signal.SIGSTOP)
    return card


@pytest.fixture
def halted(worker: Workers) -> Iterator[Workers]:
    """Workers of which the one for runs stands still until the test lets it go on, and goes on afterwards."""
    process = worker.running["batch"]
    process.send_signal(signal.SIGSTOP)
    yield worker
    process.send_signal(signal.SIGCONT)


def test_a_build_is_watched_stopped_and_resumed(live_visitor: Page, halted: Workers, server: str, tmp_path: Path):
    page = live_visitor
    tiny_dictionary(tmp_path, "topk", "blocks.0.hook_resid_post", d_sae=64, source=SOURCE, seed=9)
    page.goto(f"{server}/accounts/login?next=/add/dictionary?path={tmp_path / SOURCE}")
    page.get_by_label("Name").fill(STAFF)
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Add", exact=True).click()
    page.wait_for_url(f"**/tiny/{SOURCE}")

    # The form says what it takes before it starts anything.
    page.get_by_role("link", name=re.compile("^Build")).first.click()
    expect(page.get_by_role("checkbox", name=SOURCE)).to_be_checked()
    expect(page.locator("#estimate")).to_contain_text("memory of each worker")
    page.get_by_role("textbox", name="Tokens").fill("60000")
    page.get_by_role("button", name="Build", exact=True).click()
    page.wait_for_url("**/runs/*")
    run_id = int(page.url.rsplit("/", 1)[1])
    badge, now = page.locator("#run .badge"), page.locator("#run .phases .now")
    expect(badge).to_have_text("queued")
    expect(page.locator("#run")).to_contain_text("waiting for a batch worker")

    # The page follows the worker without being loaded anew.
    page.evaluate("window.loadedOnce = true")
    card = step_until(run_id, halted, lambda card: card.phase == "encode" and 0 < card.done < card.total)
    expect(badge).to_have_text("running")
    expect(now).to_have_text("encode")
    expect(page.locator("#run .phases .done")).to_have_text(["read"])
    expect(page.locator("#run progress")).to_have_attribute("value", str(card.done))
    expect(page.locator("#run .shards")).to_contain_text("in work")
    assert page.evaluate("window.loadedOnce")

    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)
    halted.running["batch"].send_signal(signal.SIGCONT)
    expect(badge).to_have_text("cancelled", timeout=MILLISECONDS)

    page.get_by_role("button", name="Resume").click()
    expect(badge).to_have_text("done", timeout=MILLISECONDS)
    expect(page.locator("#run .phases .done")).to_have_count(4)
    expect(page.locator("#run progress")).to_have_count(0)
    page.locator(".came a", has_text=SOURCE).click()
    expect(page.get_by_role("heading", name="How often features fire")).to_be_visible()
