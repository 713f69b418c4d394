"""What can be measured of the look: widths, contrasts, sizes, focus rings, in both themes, wide and narrow."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.browser.conftest import Watch
from tests.site import Site

pytestmark = [pytest.mark.browser, pytest.mark.django_db]

ADDRESSES = [
    "/",
    "/tiny",
    "/tiny/1-res-topk",
    "FEATURE",
    "/prompt",
    "/steer",
    "/search?q=self",
    "/lists",
    "/runs",
    "/runs/1",
    "/api",
    "/accounts/login",
    "/corpora/python/0",
    "/patterns/",
    "/tiny/nothing",
]

LOOK = Path(__file__).with_name("look.js").read_text()


@pytest.fixture(params=["light", "dark"])
def theme(request: pytest.FixtureRequest, page: Page) -> str:
    page.emulate_media(color_scheme=request.param)
    return request.param


@pytest.mark.parametrize("width", [390, 900, 1440])
def test_no_page_scrolls_sideways_or_hides_text(
    visitor: Page, watch: Watch, site: Site, server: str, theme: str, width: int
):
    watch.expected = ("404",)
    visitor.set_viewport_size({"width": width, "height": 844})
    found: dict[str, object] = {}
    for address in ADDRESSES:
        visitor.goto(server + (site.feature_url if address == "FEATURE" else address))
        for name in ("faint", "smallText", "smallTargets", "excess"):
            if problems := visitor.evaluate(f"{LOOK}.{name}()"):
                found[f"{address} {name}"] = problems
    assert found == {}


def test_the_panes_of_a_feature_become_tabs_on_small_screens(visitor: Page, site: Site, server: str):
    visitor.set_viewport_size({"width": 390, "height": 844})
    visitor.goto(f"{server}{site.feature_url}")
    for name, pane in (("Facts", "#facts"), ("Around", "#rail"), ("Contexts", "#contexts")):
        visitor.get_by_role("link", name=name, exact=True).click()
        visitor.locator(pane).wait_for(state="visible")
        assert sum(visitor.locator(other).is_visible() for other in ("#facts", "#rail", "#contexts")) == 1


def test_focus_is_always_visible(visitor: Page, site: Site, server: str):
    visitor.goto(f"{server}{site.feature_url}")
    for _ in range(30):
        visitor.keyboard.press("Tab")
        ring = visitor.evaluate(
            "() => { const of = (style) => parseFloat(style.outlineWidth) * (style.outlineStyle !== 'none');"
            " const at = document.activeElement;"
            " return Math.max(of(getComputedStyle(at)), of(getComputedStyle(at, '::after')),"
            " at.nextElementSibling ? of(getComputedStyle(at.nextElementSibling)) : 0) }"
        )
        assert ring >= 2, visitor.evaluate("document.activeElement.outerHTML.slice(0, 120)")


def test_a_copied_context_is_clean_text(visitor: Page, site: Site, server: str):
    visitor.goto(f"{server}{site.feature_url}")
    visitor.keyboard.press("4")
    copied = visitor.evaluate(
        "() => { const tokens = document.querySelector('#group-0 .example .tokens');"
        " getSelection().selectAllChildren(tokens); return getSelection().toString() }"
    )
    assert copied.strip()
    assert not set("↵·⟨⟩") & set(copied)
    assert "\n" in copied


def test_motion_stops_for_those_who_ask(visitor: Page, server: str):
    visitor.emulate_media(reduced_motion="reduce")
    visitor.goto(f"{server}/patterns/")
    seconds = visitor.evaluate("parseFloat(getComputedStyle(document.querySelector('progress')).transitionDuration)")
    assert seconds <= 0.001


def test_activations_are_seen_without_colours(visitor: Page, site: Site, server: str):
    visitor.emulate_media(forced_colors="active")
    visitor.goto(f"{server}{site.feature_url}")
    line = visitor.evaluate("getComputedStyle(document.querySelector('.tokens i[data-v]')).textDecorationLine")
    assert line == "underline"
