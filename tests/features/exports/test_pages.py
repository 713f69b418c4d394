"""Features and lists as single files."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from django.core.management import call_command
from django.utils.html import escape

from features import selectors, services
from features.exports.pages import feature_page, list_page
from tests.features.conftest import World

SOURCE = "1-res-topk"
# What would make a page ask for something: only anchors of the page itself may remain.
_ASKS = re.compile(r"""(?:href|src|action|srcset|hx-[a-z-]+)=["'](?!#)|url\(|@import|https?://(?!127\.0\.0\.1)""")


class Ids(HTMLParser):
    """Collects the ids of a document and what refers to them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.wanted: set[str] = set()
        self.tags: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attributes:
            if name == "id":
                self.ids.append(value or "")
            elif name in ("aria-labelledby", "aria-controls"):
                self.wanted.add(value or "")
            elif name == "href" and (value or "").startswith("#"):
                self.wanted.add((value or "")[1:])


@pytest.fixture
def members(world: World, user) -> list[int]:
    """Put four features on a list; return its id and their indices."""
    made = services.lists.create(user=user, name="Kept <b>things</b>")
    indices = [world.busiest(place=place) for place in range(4)]
    for index in indices:
        services.lists.add_member(user=user, list=made.pk, dictionary=world.dictionaries[SOURCE].pk, index=index)
    return [made.pk, *indices]


def test_a_feature_needs_nothing_else(world: World) -> None:
    html = feature_page("tiny", SOURCE, world.busiest())
    assert _ASKS.search(html) is None
    page = Ids(html)
    assert len(page.ids) == len(set(page.ids))
    assert page.wanted <= set(page.ids)
    assert "form" not in page.tags


def test_a_feature_shows_what_its_page_shows(world: World) -> None:
    index = world.busiest()
    html = feature_page("tiny", SOURCE, index)
    card = selectors.feature_card("tiny", SOURCE, index)
    groups = selectors.example_groups(card.source.id, index, 60)
    assert html.count('<article class="example"') == sum(len(group.examples) for group in groups)
    assert html.count("<svg viewBox") >= 2
    assert escape(card.label) in html
    assert card.source.sha256[:12] in html


def test_links_lead_to_the_deployment_where_it_is_known(world: World) -> None:
    html = feature_page("tiny", SOURCE, world.busiest(), base_url="http://127.0.0.1:8000")
    neighbour = selectors.feature_card("tiny", SOURCE, world.busiest()).decoder_neighbours[0]
    assert f'href="http://127.0.0.1:8000/tiny/{SOURCE}/{neighbour.index}"' in html


def test_a_list_holds_its_features_in_order(world: World, members: list[int]) -> None:
    html = list_page(members[0])
    assert _ASKS.search(html) is None
    page = Ids(html)
    assert len(page.ids) == len(set(page.ids))
    assert page.wanted <= set(page.ids)
    assert [name for name in page.ids if re.fullmatch(rf"f-tiny-{SOURCE}-\d+", name)] == [
        f"f-tiny-{SOURCE}-{index}" for index in members[1:]
    ]
    assert "Kept &lt;b&gt;things&lt;/b&gt;" in html


def test_features_without_dashboards_are_left_out_and_said(registered: World, user) -> None:
    made = services.lists.create(user=user, name="Unbuilt")
    services.lists.add_member(user=user, list=made.pk, dictionary=registered.dictionaries[SOURCE].pk, index=1)
    assert "1 feature of the list is left out" in " ".join(list_page(made.pk).split())


def test_the_command_writes_files(world: World, members: list[int], tmp_path) -> None:
    call_command("export_html", f"tiny/{SOURCE}/3", f"lists/{members[0]}", "--to", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"list-{members[0]}.html", f"tiny-{SOURCE}-3.html"]
