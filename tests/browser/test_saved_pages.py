"""Features and lists saved as files, opened from the disk: they ask for nothing and look as the site does."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page

from features import services
from features.exports.pages import feature_page, list_page
from features.models import Dictionary
from tests.browser.conftest import Watch
from tests.site import Site

pytestmark = [pytest.mark.browser, pytest.mark.django_db]

LOOK = (Path(__file__).parent / "look.js").read_text()


@pytest.fixture
def saved(site: Site, tmp_path: Path, django_user_model) -> dict[str, Path]:
    """Save a feature, and a list with three features that have notes."""
    user = django_user_model.objects.create_user("saver")
    made = services.lists.create(user=user, name="Things worth a second look", description="Found while reading.")
    dictionary = Dictionary.objects.get(model__slug=site.model, source=site.source).pk
    for index in (site.feature, site.feature - 1, site.feature + 1):
        services.lists.add_member(
            user=user, list=made.pk, dictionary=dictionary, index=index, note=f"the note of {index}"
        )
    pages = {"feature": feature_page(site.model, site.source, site.feature), "list": list_page(made.pk, user=user)}
    files = {name: tmp_path / f"{name}.html" for name in pages}
    for name, html in pages.items():
        files[name].write_text(html, encoding="utf-8")
    return files


@pytest.mark.parametrize("name", ["feature", "list"])
def test_a_saved_page_stands_alone(page: Page, watch: Watch, saved: dict[str, Path], name: str) -> None:
    """No request but for the file itself; nothing hidden, faint or too wide, in both themes at both widths."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    address = saved[name].as_uri()
    found: dict[str, object] = {}
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        for width in (1440, 390):
            page.set_viewport_size({"width": width, "height": 900})
            page.goto(address)
            page.screenshot(path=saved[name].with_name(f"{name}-{theme}-{width}.png"))
            for measure in ("faint", "smallText", "smallTargets", "excess"):
                if problems := page.evaluate(f"{LOOK}.{measure}()"):
                    found[f"{theme} {width} {measure}"] = problems
    assert found == {}
    assert set(asked) == {address}
    assert page.locator("article.example").count() > 3
    assert page.locator(".chart svg").first.is_visible()


def test_the_switch_of_a_saved_page_changes_its_theme(page: Page, watch: Watch, saved: dict[str, Path]) -> None:
    page.emulate_media(color_scheme="light")
    page.goto(saved["feature"].as_uri())
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.get_by_role("button", name="Light or dark").click()
    assert page.evaluate(background) != light
    page.get_by_role("button", name="Light or dark").click()
    assert page.evaluate(background) == light


def test_links_of_a_saved_list_lead_to_its_features(page: Page, watch: Watch, saved: dict[str, Path]) -> None:
    page.goto(saved["list"].as_uri())
    # The columns of the contents break no entry in two.
    assert max(link.bounding_box()["height"] for link in page.locator("nav a").all()) < 40
    page.locator("nav a").last.click()
    assert page.evaluate("document.querySelector(location.hash).getBoundingClientRect().top") < 900
    token = page.locator("i[data-v]").last
    token.hover()
    assert token.get_attribute("title") == token.get_attribute("data-v")
