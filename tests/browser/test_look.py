"""What can be measured of the look: widths, contrasts, sizes, focus rings, in both themes, wide and narrow."""

from __future__ import annotations

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

# Text whose contrast with what lies behind it is below 4.5; text of disabled controls is exempt.
FAINT = """() => {
  const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => [r, g, b].map((c) => c / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const [r, g, b, a = 1] = channels(getComputedStyle(at).backgroundColor);
      if (a === 1) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const faint = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !element.getClientRects().length) continue;
    if (element.closest(':disabled, script, noscript, .out, .js-plotly-plot')) continue;
    const style = getComputedStyle(element);
    if (style.visibility === 'hidden') continue;
    const pair = [luminance(channels(style.color)), luminance(behind(element))].sort((x, y) => y - x);
    const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
    if (ratio < 4.5) faint.add(`${ratio.toFixed(2)} ${element.tagName}.${element.className}: ${element.textContent.trim().slice(0, 30)}`);
  }
  return [...faint];
}"""
SMALL_TEXT = """() => [...new Set([...document.querySelectorAll('body *')].filter((element) =>
  [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim()) && element.getClientRects().length
  && parseFloat(getComputedStyle(element).fontSize) < 12 && !element.closest('.js-plotly-plot'))
  .map((element) => `${getComputedStyle(element).fontSize} ${element.tagName}.${element.className}`))]"""
# Controls lower than 24 pixels; links inside sentences and lines of a document are exempt (WCAG 2.5.8).
SMALL_TARGETS = """() => [...new Set([...document.querySelectorAll('button, input:not([type=hidden]), select, summary, .button')]
  .filter((element) => element.getClientRects().length && !element.closest('p, .out, .js-plotly-plot, .pick, label.row'))
  .filter((element) => element.getBoundingClientRect().height < 23.5)
  .map((element) => `${element.getBoundingClientRect().height} ${element.tagName}.${element.className}`))]"""
WIDE = """() => document.documentElement.scrollWidth - innerWidth"""


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
        for name, script in (("faint", FAINT), ("small text", SMALL_TEXT), ("small targets", SMALL_TARGETS)):
            if problems := visitor.evaluate(script):
                found[f"{address} {name}"] = problems
        if (excess := visitor.evaluate(WIDE)) > 0:
            found[f"{address} wider by"] = excess
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
