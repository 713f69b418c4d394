"""Which tokens a feature of attention's outputs comes from: chosen by pointer, focus and keys, on both pages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Locator, Page, expect

from features import services
from tests.site import Site, build
from tests.tiny import tiny_dictionary

pytestmark = [pytest.mark.browser, pytest.mark.django_db]

SOURCE = "1-att-topk"
TEXT = "def größe(naïve: str) -> str:\n    return '東京 🦊' + naïve  # and so on"


@pytest.fixture(scope="module")
def attention(site: Site, django_db_blocker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A dictionary of heads' outputs beside those of the site."""
    folder = tiny_dictionary(tmp_path_factory.mktemp("attention"), "topk", "blocks.1.attn.hook_z", source=SOURCE)
    with django_db_blocker.unblock():
        made = services.dictionaries.add_dictionary(path=folder, model=site.model, source=SOURCE)
        build([made.pk])
        yield SOURCE
        services.dictionaries.remove_dictionary(dictionary=made.pk)


@pytest.fixture
def index(live_visitor: Page, site: Site, server: str, attention: str) -> int:
    """The feature that fires at the most tokens of the text."""
    body = {"model": site.model, "sources": [SOURCE], "text": TEXT}
    answer = live_visitor.request.post(f"{server}/api/v1/prompt", data=body)
    return max(answer.json()["features"], key=lambda feature: len(feature["values"]))["index"]


def colours(text: Locator) -> list[list[str]]:
    """Return the classes and the value of every token, but for what the pointer does."""
    return text.evaluate(
        "text => [...text.querySelectorAll('i')].map(token =>"
        " [...[...token.classList].filter(name => name !== 'hot').sort(), token.dataset.v ?? ''])"
    )


@pytest.mark.parametrize("width", [1440, 390])
def test_a_token_is_chosen_by_its_button_by_keys_and_by_the_pointer(
    live_visitor: Page, site: Site, server: str, index: int, width: int
):
    page = live_visitor
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"{server}/{site.model}/{SOURCE}/{index}?{urlencode({'text': TEXT})}")
    buttons = page.locator("[data-destination]")
    expect(buttons.first).to_have_attribute("aria-checked", "true")
    text = page.locator("[data-traced-text]")
    first = colours(text)
    buttons.first.focus()
    page.keyboard.press("ArrowRight")
    expect(buttons.nth(1)).to_be_focused()
    expect(buttons.nth(1)).to_have_attribute("aria-checked", "true")
    expect(buttons.first).to_have_attribute("tabindex", "-1")
    expect(page.locator("#spoken")).to_contain_text("sources of")
    assert colours(text) != first
    second = buttons.nth(1).get_attribute("data-destination")
    expect(page.locator(f"[data-details='{second}']")).to_be_visible()
    expect(page.locator("[data-details]:visible")).to_have_count(1)
    # What a script paints is what the server renders.
    page.keyboard.press("ArrowLeft")
    assert colours(text) == first
    if width == 1440:
        target = buttons.nth(1).get_attribute("data-destination")
        page.locator(f"#test-result i[data-at='{target}']").hover()
        expect(buttons.nth(1)).to_have_attribute("aria-checked", "true")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_text_is_walked_with_arrows_and_says_what_a_token_adds(
    live_visitor: Page, site: Site, server: str, index: int
):
    page = live_visitor
    page.goto(f"{server}/{site.model}/{SOURCE}/{index}?{urlencode({'text': TEXT})}")
    page.locator("[data-traced-text]").focus()
    expect(page.locator("#spoken")).to_contain_text(re.compile(r"contribution .*% of the pre-activation"))
    expect(page.locator("#tip")).to_contain_text("contribution")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#tip")).to_be_visible()


def test_the_prompt_page_shows_sources_on_request(live_visitor: Page, site: Site, server: str, index: int):
    page = live_visitor
    query = urlencode({"model": site.model, "source": SOURCE, "text": TEXT, "density": ""})
    page.goto(f"{server}/prompt?{query}")
    asked = page.get_by_role("button", name="sources").first
    asked.click()
    panel = page.locator("#prompt-sources [data-traced]")
    expect(panel).to_contain_text("comes from")
    expect(panel).to_contain_text("pre-activation")
    # Running again takes away what belonged to the answer before.
    page.get_by_role("button", name=re.compile("^Run")).click()
    expect(panel).to_have_count(0)
