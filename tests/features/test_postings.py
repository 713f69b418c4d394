"""Postings: which features have a token, in the bytes that search reads."""

import numpy as np
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from features import postings, selectors
from features.models import Example, Feature, Posting
from features.packed_examples import unpack
from features.postings import CONTEXT, KINDS, PEAK, PROMOTED, Row
from features.results import SourceFilters
from inference.dashboards.results import TOP

SOURCE = "1-res-topk"


@pytest.mark.parametrize("kind", KINDS, ids=["peak", "promoted", "context"])
@pytest.mark.parametrize("largest", [3, (1 << 16) - 1, 1 << 16])
def test_what_is_packed_is_unpacked(kind, largest):
    rng = np.random.default_rng(largest)
    first = 5 * kind.block
    whole = np.zeros(80, dtype=kind.dtype)
    whole["dictionary"] = 9
    whole["key"] = rng.integers(first, first + 2 * kind.block, 80)
    whole["index"] = rng.integers(0, largest, 80)
    whole["index"][7] = largest
    for name, number in kind.fields:
        whole[name] = rng.integers(0, 200, 80).astype(number)
    whole = whole[np.lexsort((whole["index"], whole["key"]))]
    rows = [Row(9, block, packed) for block, packed in postings.pack(kind, whole)]
    assert [row.block for row in rows] == [5, 6]
    for wanted in (range(first, first + 2 * kind.block), [int(whole["key"][0])], []):
        found = postings.unpack(kind, rows, [wanted, wanted])
        np.testing.assert_array_equal(np.sort(found), np.sort(whole[np.isin(whole["key"], list(wanted))]))


@pytest.mark.parametrize("packed", [b"", b"\x03", b"\x02", b"\x02" + bytes(2 * PEAK.block) + b"x"])
def test_bytes_that_are_no_block_are_refused(packed):
    with pytest.raises(ValueError, match="block of"):
        postings.unpack(PEAK, [Row(1, 0, packed)], [[1]])


@pytest.mark.parametrize("kind", postings.KINDS)
def test_nothing_posted_takes_no_block(kind):
    assert list(postings.pack(kind, np.zeros(0, dtype=kind.dtype))) == []


def test_postings_hold_what_the_features_hold(world):
    row = world.dictionaries[SOURCE]
    columns = {
        PEAK: ("peak_token_ids", "peak_token_shares", "peak_token_counts"),
        PROMOTED: ("promoted_ids", "promoted_values"),
    }
    for kind, names in columns.items():
        stored: dict[int, dict[int, list[float]]] = {}
        for feature in Feature.objects.of(row.pk):
            for token, *of_token in zip(*(getattr(feature, name) for name in names), strict=True):
                stored.setdefault(token, {})[feature.index] = of_token
        assert stored
        for token, features in stored.items():
            found = postings.read(kind, [([row.pk], [token])])
            assert set(found["dictionary"].tolist()) == {row.pk} and set(found["key"].tolist()) == {token}
            held = {hit["index"]: [hit[name] for name, _ in kind.fields] for hit in found}
            assert held.keys() == features.keys()
            for index, values in features.items():
                assert held[index] == pytest.approx(values, rel=2e-3, abs=1e-3)
        n_blocks = len({token // kind.block for token in stored})
        assert Posting.objects.filter(dictionary=row, kind=kind.number).count() == n_blocks
        assert len(postings.read(kind, [([row.pk], [])])) == 0


def test_postings_hold_the_top_examples(world):
    row = world.dictionaries[SOURCE]
    held = {
        (example.context, index): (example.rank, example.peak_position)
        for index, packed in Example.objects.filter(dictionary=row).values_list("index", "packed")
        for example in unpack(packed)
        if example.group == TOP
    }
    ordinals = {context for context, _ in held}
    found = postings.read(CONTEXT, [([row.pk], ordinals)])
    assert {(hit["key"], hit["index"]): (hit["rank"], hit["position"]) for hit in found} == held
    one = min(ordinals)
    only = postings.read(CONTEXT, [([row.pk], [one])])
    assert set(only["index"].tolist()) == {index for context, index in held if context == one}


def test_a_list_by_token_has_the_sum_of_a_features_shares(world):
    row = world.dictionaries[SOURCE]
    feature = next(one for one in Feature.objects.of(row.pk) if len(one.peak_token_ids) > 1)
    tokens, shares = feature.peak_token_ids[:2], feature.peak_token_shares[:2]
    assert postings.features_peaking(row.pk, tokens)[feature.index] == pytest.approx(min(1.0, sum(shares)), abs=2e-3)


def test_postings_go_with_their_dictionary(world):
    row = world.dictionaries[SOURCE]
    others = Posting.objects.exclude(dictionary=row).count()
    postings.remove(row.pk)
    assert Posting.objects.count() == others > 0


def test_a_list_by_token_is_ordered_by_the_share_on_it(world):
    listed = selectors.source_page("tiny", SOURCE, SourceFilters(token="self", sort="-share", per_page=500)).features
    shares = [row.share for row in listed.rows]
    assert len(shares) == listed.total > 1 and shares == sorted(shares, reverse=True) and 0 < shares[0] <= 1
    by_index = selectors.source_page("tiny", SOURCE, SourceFilters(token="self", per_page=500)).features
    assert {row.index: row.share for row in by_index.rows} == {row.index: row.share for row in listed.rows}
    one = selectors.source_page("tiny", SOURCE, SourceFilters(token="self", sort="-share", per_page=1, page=2)).features
    assert [row.index for row in one.rows] == [listed.rows[1].index] and one.n_pages == listed.total
    last = selectors.source_page("tiny", SOURCE, SourceFilters(text="token", per_page=2, page=10**6)).features
    assert last.number == last.n_pages and last.rows
    assert selectors.source_page("tiny", SOURCE, SourceFilters(token="no such token")).features.total == 0


@pytest.mark.parametrize("query", ["tok:self", "promotes:self", "ctx:self", "tok:self ctx:self"])
def test_what_is_found_by_postings_reads_no_partition(world, query):
    with CaptureQueriesContext(connection) as queries:
        found = selectors.search(query)
    statements = [query["sql"] for query in queries]
    assert found.peak_tokens or found.promoted_tokens or found.contexts
    assert any("features_posting" in statement for statement in statements)
    # Only what is shown is read of the features.
    assert [statement for statement in statements if "features_example" in statement] == []
    assert len([statement for statement in statements if "features_feature " in statement]) == 1
