"""Postings: which features have a token, in the bytes that search reads."""

import numpy as np
import pytest
from django.db import connection

from features import postings, selectors
from features.models import Feature, TokenPosting
from features.postings import BLOCK, KIND_PEAK, KIND_PROMOTED, Postings
from features.results import SourceFilters

SOURCE = "1-res-topk"


@pytest.mark.parametrize("kind", [KIND_PEAK, KIND_PROMOTED])
@pytest.mark.parametrize("largest", [3, (1 << 16) - 1, 1 << 16])
def test_what_is_packed_is_unpacked(kind, largest):
    rng = np.random.default_rng(largest)
    token_p = np.sort(rng.integers(5 * BLOCK, 6 * BLOCK, 40))
    index_p = rng.integers(0, largest, 40)
    index_p[7] = largest
    value_p = rng.uniform(0, 1, 40).astype(np.float16).astype(np.float64)
    count_p = rng.integers(0, 1 << 31, 40) * (kind == KIND_PEAK)
    whole = Postings(token_p=token_p, index_p=index_p, value_p=value_p, count_p=count_p)
    packed = postings.pack(kind, 5, whole)
    for wanted in (range(5 * BLOCK, 6 * BLOCK), [int(token_p[0])], []):
        found = postings.unpack(kind, 5, packed, list(wanted))
        here_p = np.isin(token_p, list(wanted))
        for name in ("token_p", "index_p", "value_p", "count_p"):
            np.testing.assert_array_equal(getattr(found, name), getattr(whole, name)[here_p])


@pytest.mark.parametrize("packed", [b"", b"\x03", b"\x02" + bytes(2 * BLOCK) + b"x"])
def test_bytes_that_are_no_block_are_refused(packed):
    with pytest.raises(ValueError, match="block of"):
        postings.unpack(KIND_PEAK, 0, packed, [1])


def test_postings_hold_what_the_features_hold(world):
    row = world.dictionaries[SOURCE]
    columns = {KIND_PEAK: ("peak_token_ids", "peak_token_shares"), KIND_PROMOTED: ("promoted_ids", "promoted_values")}
    for kind, names in columns.items():
        stored: dict[int, dict[int, float]] = {}
        for index, tokens, values in Feature.objects.of(row.pk).values_list("index", *names):
            for token, value in zip(tokens, values, strict=True):
                stored.setdefault(token, {})[index] = value
        assert stored
        for token, features in stored.items():
            assert postings.features_of(kind, row.pk, [token]) == pytest.approx(features, rel=2e-3, abs=1e-3)
        assert TokenPosting.objects.filter(dictionary=row, kind=kind).count() == len({t // BLOCK for t in stored})


def test_postings_go_with_their_dictionary(world):
    row = world.dictionaries[SOURCE]
    others = TokenPosting.objects.exclude(dictionary=row).count()
    postings.remove(row.pk)
    assert TokenPosting.objects.count() == others > 0


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


def test_a_search_by_token_reads_no_partition_of_features(world):
    with connection.cursor() as cursor:
        cursor.execute(
            "EXPLAIN SELECT packed FROM features_tokenposting WHERE kind = 0 AND block = ANY('{1,2}') AND"
            " dictionary_id = ANY('{1,2,3}')"
        )
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "features_tokenposting" in plan and "features_feature" not in plan
