"""Trouble in the browser: a worker that dies in the middle of a generation, none at all, a text too long."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.processes import Workers
from tests.site import Site

pytestmark = [pytest.mark.browser, pytest.mark.django_db]


def test_a_lost_worker_is_said_and_the_retry_works(live_visitor: Page, worker: Workers, site: Site, server: str):
    page = live_visitor
    page.goto(f"{server}/steer?f={site.source}/{site.feature}@2&text=def%20&n=200")
    page.get_by_role("button", name="Generate").click()
    page.locator("[data-side] i").nth(6).wait_for()
    worker.kill("engine")
    problem = page.locator("[data-problem]")
    expect(problem).to_be_visible(timeout=30_000)
    expect(problem).to_contain_text("worker")
    assert page.locator("[data-side] i").count() > 6  # what was generated stays
    worker.start("engine")
    problem.get_by_role("button", name="Try again").click()
    expect(page.locator("[data-status]")).to_contain_text("200 tokens", timeout=120_000)


def test_a_text_beyond_the_window_names_the_limit_and_offers_to_cut(live_visitor: Page, site: Site, server: str):
    page = live_visitor
    page.goto(f"{server}/prompt")
    page.get_by_label("Text", exact=True).fill("def " * 600)
    page.get_by_role("button", name="Run").click()
    expect(page.locator("#prompt-result")).to_contain_text("256")
    page.get_by_role("button", name="Cut the text to fit").click()
    expect(page.locator("#prompt-ribbon")).to_contain_text("cut from")


def test_a_recipe_on_a_text_beyond_the_window_can_be_cut(live_visitor: Page, site: Site, server: str):
    page = live_visitor
    page.goto(f"{server}{site.feature_url}")
    page.keyboard.press("s")
    page.get_by_label("Prompt").fill("def " * 600)
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("[data-problem]")).to_contain_text("256")
    page.get_by_role("button", name="Cut the text to fit").click()
    expect(page.locator("[data-status]")).to_contain_text("48 tokens", timeout=60_000)


def test_an_unknown_feature_in_a_recipe_is_said_in_place(visitor: Page, site: Site, server: str, watch):
    watch.expected = ("422",)
    visitor.goto(f"{server}/steer?f={site.source}/99999@2&text=def")
    expect(visitor.locator("#steer-run .problem")).to_contain_text("99999")
