"""The walk of a new user, from the first page to the steered text; everything survives a reload."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.site import Site

pytestmark = [pytest.mark.browser, pytest.mark.django_db]


def test_a_new_user_walks_from_home_to_steered_text(live_visitor: Page, site: Site, server: str):
    page = live_visitor

    # Home shows the model and its dictionaries; browse to a feature.
    expect(page.get_by_role("heading", level=1)).to_contain_text("Look inside a model")
    page.get_by_role("link", name="1-res-topk").first.click()
    expect(page.locator("[data-plot].js-plotly-plot")).to_be_visible()
    page.get_by_label("sort").select_option("-density")
    expect(page.locator("#list th[aria-sort=descending]")).to_contain_text("density")
    page.goto(f"{server}{site.feature_url}")

    # Contexts: groups from the top to silence, one tooltip, the mark on the histogram.
    expect(page.locator("#group-0 .example").first).to_be_visible()
    expect(page.locator("#group-6 .example").first).to_be_visible()
    page.locator("#group-0 .example .peak i").first.hover()
    expect(page.locator("#tip")).to_contain_text("activation")
    expect(page.locator("[data-chart=activations] .mark")).to_have_class(re.compile(r"\bon\b"))
    source = page.locator("#group-0 .example .from a").first
    assert re.search(r"/corpora/python/\d+#L\d+", source.get_attribute("href"))

    # The test box lights up while typing, and its text belongs to the address.
    example = page.locator("#group-0 .example").first
    recorded = float(example.locator(".peak i").get_attribute("data-v"))
    page.keyboard.press("t")
    page.keyboard.insert_text(example.locator(".tokens").text_content())
    lit = page.locator("#test-result i[data-v]")
    expect(lit.first).to_be_visible()
    seen = max(float(value) for value in lit.evaluate_all("(tokens) => tokens.map((token) => token.dataset.v)"))
    assert seen == pytest.approx(recorded, rel=2e-3)  # examples are kept in half precision
    expect(page.locator("#test-result")).to_contain_text("of its maximum")
    expect(page).to_have_url(re.compile(r"[?&]text="))
    page.reload()
    expect(page.locator("#test-result i[data-v]").first).to_be_visible()

    # The prompt page says which features fire where.
    page.get_by_role("link", name="Prompt", exact=False).first.click()
    page.get_by_label("Text", exact=True).fill("def area(self, radius): return radius * radius")
    page.keyboard.press("Enter")
    fired = page.locator("[data-fired] li")
    expect(fired.first).to_be_visible()
    fired.nth(1).hover()
    expect(page.locator("[data-ribbon] i[data-v]").first).to_be_visible()
    page.locator("[data-ribbon] i").nth(3).click()
    expect(page).to_have_url(re.compile(r"[?&]at=3\b"))

    # Default and steered text stream side by side.
    page.goto(f"{server}{site.feature_url}")
    page.keyboard.press("s")
    page.get_by_label("Prompt").fill("def area(")
    page.get_by_label("in units of its maximum").fill("4")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("[data-status]")).to_contain_text("48 tokens", timeout=60_000)
    sides = page.locator("[data-side]")
    for side in (0, 1):
        expect(sides.nth(side).locator("i")).to_have_count(48)
    expect(page.locator(".first-difference").first).to_be_visible()
    sides.nth(1).locator("i").first.hover()
    expect(page.locator("#tip")).to_contain_text("log-probability")

    # Strength zero is the default text.
    page.get_by_label("in units of its maximum").fill("0")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("[data-status]")).to_contain_text("the texts are the same", timeout=60_000)

    # Search, with the reasons of the matches.
    page.keyboard.press("Escape")
    page.locator("#palette").fill("self")
    expect(page.locator("#palette-hits a").first).to_be_visible()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Contexts")).to_be_visible()
    expect(page.locator(".hit mark").first).to_be_visible()


def test_what_people_write_survives(visitor: Page, site: Site, server: str):
    page = visitor
    page.goto(f"{server}{site.feature_url}")
    page.get_by_role("link", name="Sign in", exact=True).first.click()
    page.get_by_label("Name").fill(site.user)
    page.get_by_label("Password").fill(site.password)
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(f"{server}{site.feature_url}")

    page.keyboard.press("e")
    page.keyboard.type("names of a parameter")
    page.keyboard.press("Enter")
    expect(page.locator("#feature-label")).to_have_text("names of a parameter")

    page.get_by_role("button", name="Fits", exact=True).first.click()
    expect(page.get_by_role("button", name="Fits", exact=True).first).to_have_attribute("aria-pressed", "true")

    page.get_by_label("Your comment").fill("Seen in argparse.")
    page.get_by_role("button", name="Comment").click()
    expect(page.locator("#comments .comment")).to_contain_text("Seen in argparse.")

    page.locator("#feature-label").click()
    page.keyboard.press("b")
    page.keyboard.type("Parameters")
    page.keyboard.press("Enter")
    expect(page.locator("#on-lists")).to_contain_text("Take off")

    page.reload()
    expect(page.locator("#feature-label")).to_have_text("names of a parameter")
    expect(page.locator("#comments")).to_contain_text("Seen in argparse.")
    page.locator("#on-lists").get_by_role("link", name="Parameters").click()
    expect(page.locator("tbody tr")).to_contain_text("names of a parameter")
