"""The keyboard: every key of the help, the order of focus, and keys that stay text in fields."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.site import Site

pytestmark = [pytest.mark.browser, pytest.mark.django_db]


@pytest.fixture
def feature(visitor: Page, site: Site, server: str) -> Page:
    visitor.goto(f"{server}{site.feature_url}")
    return visitor


def test_brackets_go_to_the_neighbours(feature: Page, site: Site, server: str):
    feature.keyboard.press("]")
    expect(feature).to_have_url(f"{server}{site.source_url}/{site.feature + 1}")
    feature.keyboard.press("[")
    expect(feature).to_have_url(f"{server}{site.feature_url}")


def test_r_goes_somewhere_else(feature: Page, site: Site):
    with feature.expect_navigation():
        feature.keyboard.press("r")
    assert re.search(rf"{site.source_url}/\d+$", feature.url)


def test_digits_choose_the_width_which_is_remembered(feature: Page):
    for key, name in (("4", "full"), ("2", "snippet"), ("3", "paragraph")):
        feature.keyboard.press(key)
        expect(feature.locator(".contexts")).to_have_attribute("data-width", name)
    feature.reload()
    expect(feature.locator(".contexts")).to_have_attribute("data-width", "paragraph")


def test_j_and_k_walk_rows_and_x_opens_the_group(feature: Page):
    feature.keyboard.press("j")
    expect(feature.locator("#group-0 .example").first).to_be_focused()
    feature.keyboard.press("j")
    feature.keyboard.press("k")
    expect(feature.locator("#group-0 .example").first).to_be_focused()
    shown = feature.locator("#group-0 .example").count()
    feature.keyboard.press("x")
    expect(feature.locator("#group-0 .example").nth(shown)).to_be_attached()


def test_arrows_walk_tokens_and_are_spoken(feature: Page):
    feature.keyboard.press("j")
    expect(feature.locator("#spoken")).to_contain_text(re.compile(r"activation .*% of maximum"))
    before = feature.locator("#spoken").inner_text()
    feature.keyboard.press("ArrowRight")
    expect(feature.locator("#spoken")).not_to_have_text(before)
    feature.keyboard.press("Escape")
    expect(feature.locator("#tip")).to_be_hidden()


def test_a_click_pins_the_tooltip_until_escape(feature: Page):
    tokens = feature.locator("#group-0 .example").first.locator(".tokens .after i")
    tokens.first.click()
    expect(feature.locator("#tip")).to_have_class(re.compile("pinned"))
    feature.mouse.move(5, 5)
    expect(feature.locator("#tip")).to_be_visible()
    feature.keyboard.press("Escape")
    expect(feature.locator("#tip")).to_be_hidden()


def test_keys_are_text_in_fields(feature: Page, site: Site, server: str):
    feature.keyboard.press("t")
    expect(feature.locator("#test-text")).to_be_focused()
    feature.keyboard.type("rs]1?")
    expect(feature.locator("#test-text")).to_have_value("rs]1?")
    assert feature.url.startswith(f"{server}{site.feature_url}")
    feature.keyboard.press("Escape")
    expect(feature.locator("#test-text")).not_to_be_focused()


def test_single_keys_can_be_switched_off(feature: Page, site: Site, server: str):
    feature.keyboard.press("?")
    expect(feature.locator("#help")).to_be_visible()
    feature.locator("[data-keys-toggle]").uncheck()
    feature.keyboard.press("Escape")
    feature.keyboard.press("]")
    feature.keyboard.press("t")
    expect(feature.locator("#test-text")).not_to_be_focused()
    assert feature.url == f"{server}{site.feature_url}"


@pytest.mark.parametrize("keys", ["/", "Control+k"])
def test_the_palette_opens_goes_and_closes(feature: Page, site: Site, server: str, keys: str):
    feature.keyboard.press(keys)
    expect(feature.locator("#palette")).to_be_focused()
    feature.keyboard.type(f"{site.source}/7")
    expect(feature.locator("#palette-hits a").first).to_be_visible()
    feature.keyboard.press("ArrowDown")
    feature.keyboard.press("Enter")
    expect(feature).to_have_url(f"{server}{site.source_url}/7")


def test_the_theme_is_remembered_without_a_flash(feature: Page):
    system = feature.evaluate("matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light'")
    other = "light" if system == "dark" else "dark"
    feature.locator("[data-theme-toggle]:visible").click()
    expect(feature.locator("html")).to_have_attribute("data-theme", other)
    response = feature.reload()
    assert f'<html lang="en" data-theme="{other}">' in response.text()


def test_focus_goes_through_the_page_in_reading_order(feature: Page):
    feature.keyboard.press("Tab")
    expect(feature.locator(".skip")).to_be_focused()
    seen = []
    for _ in range(40):
        feature.keyboard.press("Tab")
        seen.append(
            feature.evaluate(
                "() => ['bar', 'rail', 'feature-head', 'strip', 'contexts', 'facts']"
                ".find((name) => document.activeElement.closest('.' + name)) ?? ''"
            )
        )
        if seen[-1] == "rail":  # thirty links: go on behind them
            feature.evaluate("[...document.querySelectorAll('.rail a')].at(-1).focus()")
    order = [name for name, before in zip(seen, ["", *seen], strict=False) if name and name != before]
    assert order[:4] == ["bar", "rail", "feature-head", "strip"]
