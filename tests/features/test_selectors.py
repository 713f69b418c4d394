"""Selectors: what pages get, with a fixed number of queries."""

from dataclasses import replace

import numpy as np
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from features import packed_examples, selectors, services
from features.models import Corpus, Dictionary, Example, Release
from features.results import SourceFilters
from features.rows import OF_EXAMPLES
from features.selectors.feature_cards import NotBuilt
from features.selectors.suggestions import UnknownAddress
from inference.dashboards.results import BANDS, HARD_SILENT, TOP
from inference.errors import NotFound
from tests.features.conftest import METHOD, N_FEATURES

SOURCE = "1-res-topk"


def counted(read, *arguments, **options):
    with CaptureQueriesContext(
        connection,
    ) as queries:
        value = read(*arguments, **options)
    return value, len(queries)


def test_home_and_model_pages(world):
    home, n_queries = counted(selectors.home)
    assert n_queries == 4
    [model] = home.models
    assert (model.slug, model.n_dictionaries, model.n_features) == ("tiny", 2, 2 * N_FEATURES)
    [release] = home.releases
    assert (release.slug, release.n_dictionaries) == ("trial", 2)
    assert {card.source for card in home.latest} == set(world.dictionaries)
    page, n_queries = counted(selectors.model_page, "tiny")
    assert n_queries == 3
    assert [card.source for card in page.sources] == ["1-res-topk", "2-res-jump"]
    assert page.sources[0].l0_mean == 8 and page.sources[0].corpus == "Some files"
    assert page.sources[0].url == "/tiny/1-res-topk"


def test_a_source_page_takes_the_same_queries_for_any_number_of_rows(world):
    selectors.source_card("tiny", SOURCE)  # remembered from here on
    _, few = counted(selectors.source_page, "tiny", SOURCE, SourceFilters(per_page=2))
    page, many = counted(selectors.source_page, "tiny", SOURCE, SourceFilters(per_page=90, text="token", token="self"))
    assert (few, many) == (5, 9)
    assert all("self" in " ".join(row.peak_tokens) or row.index for row in page.features.rows)


def test_a_dictionary_that_is_remembered_is_read_again_when_anything_of_it_changes(world):
    """Twice within one transaction, where the row keeps its transaction's number."""
    row = world.dictionaries[SOURCE]
    assert selectors.source_card("tiny", SOURCE).corpus == "Some files"
    for name in ("One", "Two"):
        Corpus.objects.update(name=name)
        assert selectors.source_card("tiny", SOURCE).corpus == name
        Dictionary.objects.filter(pk=row.pk).update(architecture=name)
        assert selectors.source_card("tiny", SOURCE).architecture == name
        Release.objects.update(slug=name.lower())
        assert selectors.source_card("tiny", SOURCE).release == name.lower()
    Dictionary.objects.filter(pk=row.pk).update(source="1-moved")
    with pytest.raises(UnknownAddress):
        selectors.source_card("tiny", SOURCE)
    assert selectors.source_card("tiny", "1-moved").id == row.pk


@pytest.mark.parametrize("sort", [f"{sign}{name}" for name in SourceFilters.SORTS[:-1] for sign in ("", "-")])
def test_a_source_page_sorts(world, sort):
    rows = selectors.source_page("tiny", SOURCE, SourceFilters(sort=sort, per_page=100)).features.rows
    name = sort.removeprefix("-")
    values = [getattr(row, {"entropy": "token_entropy"}.get(name, name)) for row in rows]
    assert values == sorted(values, reverse=sort.startswith("-"))


def test_a_source_page_filters(world):
    dashboard = world.parts.result.dashboards[SOURCE]
    density = dashboard.density_f

    def found(**filters):
        page = selectors.source_page("tiny", SOURCE, SourceFilters(per_page=N_FEATURES, **filters)).features
        assert page.total == len(page.rows)
        return {row.index for row in page.rows}

    assert found() == set(range(N_FEATURES))
    assert found(state="dead") == {index for index in range(N_FEATURES) if not density[index]}
    assert found(state="alive") | found(state="dead") == set(range(N_FEATURES))
    assert found(state="dense") == {index for index in range(N_FEATURES) if density[index] >= 0.1}
    assert found(density_low=0.01, density_high=0.05) == {
        index for index in range(N_FEATURES) if 0.01 <= density[index] <= 0.05
    }
    assert found(text="number feature 7") == {i for i in found(state="alive") if str(i).startswith("7")}
    token = next(text for text in world.parts.facts.vocabulary if text.strip() == "self")
    ids = {i for i, text in enumerate(world.parts.facts.vocabulary) if text.strip().casefold() == token.strip()}
    expected = {index for index in range(N_FEATURES) if ids & set(dashboard.peak_token_ids_fk[index].tolist())}
    assert found(token=" self ") == expected != set()
    assert found(entropy_high=2.0) == {index for index in range(N_FEATURES) if dashboard.token_entropy_f[index] <= 2.0}


def test_a_source_page_ends_at_its_last_page(world):
    page = selectors.source_page("tiny", SOURCE, SourceFilters(page=999, per_page=40))
    assert (page.features.number, page.features.n_pages, len(page.features.rows)) == (3, 3, N_FEATURES - 80)
    assert page.filters.page == 3
    assert sum(page.densities.counts) == N_FEATURES - page.source.dead


def test_a_feature_card(world, user):
    index = world.busiest()
    dashboard = world.parts.result.dashboards[SOURCE]
    services.explanations.label(dictionary=world.dictionaries[SOURCE].pk, index=index, text="mine", user=user)
    services.comments.add(dictionary=world.dictionaries[SOURCE].pk, index=index, text="hm", user=user)
    _, first = counted(selectors.feature_card, "tiny", SOURCE, index, user)
    card, n_queries = counted(selectors.feature_card, "tiny", SOURCE, index, user)
    assert (first, n_queries) == (9, 8)
    assert card.label == "mine" and [row.method for row in card.explanations] == ["", METHOD]
    assert card.explanations[0].mine and card.comments[0].mine
    assert card.firing_count == dashboard.firing_count_f[index]
    assert card.density_low < card.density == dashboard.density_f[index] < card.density_high
    assert sum(card.activations.counts) == card.firing_count
    assert len(card.activations.edges) == len(card.activations.counts) + 1
    assert sum(card.logits.counts) == world.model.d_vocab
    assert card.promoted[0].value == pytest.approx(float(dashboard.promoted_values_fk[index, 0]), rel=1e-3)
    nearest = card.decoder_neighbours[0]
    assert nearest.index == dashboard.decoder_neighbour_ids_fk[index, 0]
    assert nearest.value == pytest.approx(float(dashboard.decoder_neighbour_cosines_fk[index, 0]), rel=1e-3)
    assert nearest.density == dashboard.density_f[nearest.index]
    assert nearest.label == selectors.feature_card("tiny", SOURCE, nearest.index).label
    assert card.flags == ("dense",)
    assert (card.previous_index, card.next_index) == (index - 1, index + 1)
    assert selectors.feature_card("tiny", SOURCE, 0).previous_index is None
    assert selectors.feature_card("tiny", SOURCE, N_FEATURES - 1).next_index is None


def test_moments_of_a_card_are_those_of_the_activations(world):

    index = world.busiest("2-res-jump")
    dashboard = world.parts.result.dashboards["2-res-jump"]
    card = selectors.feature_card("tiny", "2-res-jump", index)
    n = dashboard.firing_count_f[index]
    assert card.mean == pytest.approx(dashboard.total_f[index] / n)
    variance = dashboard.total_sq_f[index] / n - card.mean**2
    assert card.deviation == pytest.approx(np.sqrt(variance))
    assert -3 < card.skewness < 10 and -2 < card.kurtosis < 100


def test_example_groups_show_some_of_every_band(world):
    index = world.busiest()
    dictionary = world.dictionaries[SOURCE].pk
    groups, n_queries = counted(selectors.example_groups, dictionary, index)
    assert n_queries == 3
    codes = [group.code for group in groups]
    assert codes[0] == TOP and codes == sorted(codes)
    assert all(len(group.examples) <= 2 for group in groups)
    assert sum(group.share for group in groups if group.code in BANDS) == pytest.approx(1, abs=0.02)
    maximum = selectors.feature_card("tiny", SOURCE, index).maximum
    for group in groups:
        for example in group.examples:
            assert example.group == group.code
            assert len(example.starts) == len(example.token_ids)
            if group.code in BANDS:
                assert group.low < example.peak_value / maximum <= group.high
            if group.code != TOP and group.code >= HARD_SILENT:
                assert example.positions == ()


def test_an_example_is_the_context_as_it_was_measured(world):
    index = world.busiest()
    group = selectors.example_group(world.dictionaries[SOURCE].pk, index, TOP, limit=50)
    examples = world.parts.result.dashboards[SOURCE].examples
    rows = [row for row in examples.of_feature(index) if examples.group_x[row] == TOP]
    assert len(group.examples) == group.total
    assert sum(1 for _ in rows) >= group.total
    best, first = group.examples[0], rows[0]
    positions, values = examples.recorded(first)
    assert best.positions == tuple(positions.tolist()) and best.values == tuple(values.astype(float).tolist())
    assert best.values[best.positions.index(best.peak_position)] == pytest.approx(best.peak_value, rel=1e-3)
    contexts = world.parts.result.contexts
    assert best.token_ids == tuple(contexts.tokens(best.context)[0].tolist())
    name = world.parts.documents[contexts.document_c[best.context]].name
    assert best.document == name and best.document_url.startswith("/corpora/some-files/")
    # The link leads to the line of the peak.
    lines = selectors.document("some-files", int(contexts.document_c[best.context])).lines
    token = best.text[best.starts[best.peak_position] : best.ends[best.peak_position]]
    assert token.split("\n")[0] in lines[best.line - 1] + "\n"


def test_groups_are_read_in_stretches(world):
    dictionary, index = world.dictionaries[SOURCE].pk, world.busiest()
    whole = selectors.example_group(dictionary, index, TOP, limit=100).examples
    parts = [
        example
        for offset in range(0, len(whole), 3)
        for example in selectors.example_group(dictionary, index, TOP, offset=offset, limit=3).examples
    ]
    assert parts == list(whole)
    with pytest.raises(UnknownAddress):
        selectors.example_group(dictionary, index, 9)


def test_near_duplicates_are_folded(world):
    """The folds of all examples of a group differ, and what was folded is counted."""
    dictionary = world.dictionaries[SOURCE].pk
    examples = world.parts.result.dashboards[SOURCE].examples
    rows = examples.of_feature(world.busiest())
    own = slice(rows.start, rows.stop)
    of_feature = replace(
        examples,
        **{name: getattr(examples, name)[own] for name in OF_EXAMPLES},
        indptr_x=examples.indptr_x[rows.start : rows.stop + 1],
    )
    is_top = of_feature.group_x == TOP
    n_examples = int(is_top.sum())
    # Equal windows of the top examples, each other one for itself.
    _, [packed] = packed_examples.pack(of_feature, np.where(is_top, 0, 1 + np.arange(len(rows))))
    Example.objects.filter(dictionary_id=dictionary, index=world.busiest()).update(packed=packed)
    group = selectors.example_group(dictionary, world.busiest(), TOP, limit=100)
    assert group.total == 1
    assert group.examples[0].n_similar >= n_examples - 1 > 0
    others = selectors.example_groups(dictionary, world.busiest(), 100)[1:]
    assert sum(other.total for other in others) == len(rows) - n_examples


def test_feature_rows_of_addresses(world):
    one, two = (dictionary.pk for dictionary in world.dictionaries.values())
    addresses = [(two, 5), (one, 3), (two, 5), (999_999, 1)]
    rows, n_queries = counted(selectors.feature_rows, addresses)
    assert n_queries == 3
    assert list(rows) == [(two, 5), (one, 3)]
    assert rows[one, 3].url == "/tiny/1-res-topk/3" and rows[one, 3].label_author in (METHOD, "")


def test_rows_of_a_dictionary_that_is_not_built(registered):
    row = registered.dictionaries[SOURCE]
    assert selectors.feature_rows([(row.pk, 2)])[row.pk, 2].density == 0
    page = selectors.source_page("tiny", SOURCE)
    assert page.features.total == 0 and page.densities is None
    with pytest.raises(NotBuilt) as error:
        selectors.feature_card("tiny", SOURCE, 2)
    assert "not built yet" in error.value.cause
    with pytest.raises(NotBuilt):
        selectors.random_feature("tiny")


def test_random_features_fire(world):
    counts = world.parts.result.dashboards[SOURCE].firing_count_f
    drawn = {selectors.random_feature("tiny", SOURCE) for _ in range(20)}
    assert len(drawn) > 5
    assert all(dictionary == world.dictionaries[SOURCE].pk and counts[index] for dictionary, index in drawn)


@pytest.mark.parametrize(
    ("read", "suggestion"),
    [
        (lambda: selectors.model_page("tinny"), "/tiny"),
        (lambda: selectors.source_page("tini", SOURCE), "/tiny"),
        (lambda: selectors.source_page("tiny", "1-res-topp"), "/tiny/1-res-topk"),
        (lambda: selectors.feature_card("tiny", "2-res", 0), "/tiny/2-res-jump"),
        (lambda: selectors.feature_card("tiny", SOURCE, 10_000), f"/tiny/{SOURCE}/{N_FEATURES - 1}"),
        (lambda: selectors.random_feature("tinyy"), "/tiny"),
        (lambda: selectors.search("x", model="tiny", source="9-none"), "/tiny/1-res-topk"),
    ],
)
def test_unknown_addresses_suggest_known_ones(world, read, suggestion):
    with pytest.raises(UnknownAddress) as error:
        read()
    assert error.value.status == 404
    assert suggestion in error.value.details["suggestions"]


def test_lists(world, user, other):
    row = services.lists.create(name="first", user=user)
    services.lists.create(name="empty", user=other)
    one, two = (dictionary.pk for dictionary in world.dictionaries.values())
    for dictionary, index in ((two, 9), (one, 4), (one, 4)):
        services.lists.add_member(list=row.pk, dictionary=dictionary, index=index, user=user, note="look")
    cards, n_queries = counted(selectors.lists, user)
    assert [card.name for card in selectors.lists(user, limit=1)] == ["first"], "one's own come first, however old"
    assert [card.name for card in selectors.lists(other, limit=1)] == ["empty"]
    assert len(selectors.lists(limit=1)) == 1
    assert n_queries == 1
    assert [(card.name, card.n_members, card.mine) for card in cards] == [("first", 2, True), ("empty", 0, False)]
    page, n_queries = counted(selectors.feature_list, row.pk, other)
    assert n_queries == 5
    assert [(found.source, found.index) for found in page.features.rows] == [("2-res-jump", 9), (SOURCE, 4)]
    assert page.notes == ("look", "look") and not page.card.mine
    card = selectors.feature_card("tiny", SOURCE, 4, other)
    assert [(found.name, found.contains) for found in card.lists] == [("first", True), ("empty", False)]


def test_documents_say_when_they_changed(world):
    document, n_queries = counted(selectors.document, "some-files", 2)
    assert n_queries == 1
    assert document.name == "scripts.py" and document.split == "test" and not document.changed
    path = world.parts.documents[2].path
    old = path.read_bytes()
    try:
        path.write_bytes(old + b"\n# more")
        assert selectors.document("some-files", 2).changed
        path.unlink()
        with pytest.raises(NotFound) as error:
            selectors.document("some-files", 2)
        assert "can no longer be read" in error.value.cause
    finally:
        path.write_bytes(old)


@pytest.mark.parametrize("odd", ["\0", "a\0b", "\ud800", "\N{SNOWMAN}" * 300, "%s", "'"])
def test_odd_addresses_are_unknown_ones(world, odd):
    reads = [
        lambda: selectors.model_page(odd),
        lambda: selectors.source_page(odd, SOURCE),
        lambda: selectors.feature_card("tiny", odd, 0),
        lambda: selectors.random_feature("tiny", odd),
        lambda: selectors.search("x", model=odd),
        lambda: selectors.document(odd, 0),
    ]
    for read in reads:
        with pytest.raises(NotFound):
            read()


@pytest.mark.parametrize("number", [-1, 10**30])
def test_numbers_out_of_range_are_unknown(world, number):
    reads = [
        lambda: selectors.feature_card("tiny", SOURCE, number),
        lambda: selectors.document("some-files", number),
        lambda: selectors.example_groups(number, 0),
        lambda: selectors.run(number),
        lambda: selectors.feature_list(number),
    ]
    for read in reads:
        with pytest.raises(NotFound):
            read()
    assert selectors.example_group(world.dictionaries[SOURCE].pk, 0, 0, offset=10**30).examples == ()


@pytest.mark.parametrize(
    "filters",
    [
        {"text": "\0 \ud800"},
        {"token": "\0\ud800"},
        {"density_low": float("nan"), "density_high": float("inf")},
        {"entropy_low": float("-inf"), "density_high": 1e300},
        {"page": -4, "per_page": -2},
        {"per_page": 10**9},
        {"sort": "--x", "state": "what"},
    ],
)
def test_odd_filters_still_give_a_page(world, filters):
    page = selectors.source_page("tiny", SOURCE, SourceFilters(**filters))
    assert page.features.number == 1
    assert bool(page.features.rows) != bool({"text", "token"} & filters.keys())
