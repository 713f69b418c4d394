"""Look, add, browse; measure: by mouse and by keyboard, with real workers."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from features.models import Dictionary
from tests.site import PASSWORD, STAFF, Site
from tests.tiny import tiny_dictionary

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=False)]


@pytest.fixture
def staff(live_visitor: Page, site: Site, server: str) -> Page:
    """A page of somebody whose account may add what lies on this machine."""
    page = live_visitor
    page.goto(f"{server}/accounts/login?next=/add")
    page.get_by_label("Name").fill(STAFF)
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url("**/add/dictionary")
    return page


def test_look_then_add_then_browse(staff: Page, site: Site, server: str, tmp_path, watch):
    page = staff
    watch.expected = ("404",)
    tiny_dictionary(tmp_path, "topk", "blocks.0.hook_resid_post", d_sae=64, source="0-res-found", seed=8)

    # What is wrong is said in place, and the path stays in its field.
    path = page.get_by_label("Path or hub id")
    expect(path).to_be_focused()
    page.keyboard.type(str(tmp_path / "nothing"))
    page.keyboard.press("Enter")
    expect(page.locator("#look-result")).to_contain_text("There is nothing at")
    expect(path).to_have_value(str(tmp_path / "nothing"))

    # A look says what it is; the address reproduces it.
    path.fill(str(tmp_path / "0-res-found"))
    page.keyboard.press("Enter")
    result = page.locator("#look-result")
    expect(result).to_contain_text("blocks.0.hook_resid_post")
    expect(page).to_have_url(re.compile(r"/add/dictionary\?path="))
    page.reload()
    expect(result).to_contain_text("blocks.0.hook_resid_post")
    page.get_by_text("Why Facet takes it for this").click()
    expect(result).to_contain_text("as SAELens writes them")

    # Added, it has a page that shows where it comes from, and prompts work at once.
    page.get_by_role("button", name="Add", exact=True).click()
    page.wait_for_url("**/tiny/0-res-found")
    expect(page.get_by_role("heading", name="From its own files")).to_be_visible()
    expect(page.locator("main")).to_contain_text("not built yet")
    page.goto(f"{server}/prompt?model=tiny&source=0-res-found")
    page.get_by_label("Text", exact=True).fill("def area(self): return 1")
    page.keyboard.press("Enter")
    expect(page.locator("[data-fired] li").first).to_be_visible()


def test_evaluate_from_the_dictionarys_page(staff: Page, site: Site, server: str):
    page = staff
    page.goto(f"{server}/tiny/2-res-jump")
    fidelity = page.locator("section", has=page.get_by_role("heading", name="Fidelity"))
    expect(fidelity).to_contain_text("Not measured yet")
    fidelity.get_by_label("Tokens").fill("3000")
    fidelity.get_by_label("Documents").select_option("all")
    fidelity.get_by_role("button", name="Evaluate").click()
    page.wait_for_url("**/runs/*")
    link = page.locator(".came a")
    expect(link).to_be_visible(timeout=60_000)
    expect(page.locator("#run .badge")).to_have_text("done", timeout=20_000)
    link.click()
    expect(fidelity).to_contain_text("CE recovered")
    expect(fidelity).to_contain_text("nats clean")
    assert Dictionary.objects.get(source="2-res-jump").stats["fidelity"]["n_tokens"] <= 3000
