"""Search: the language of the box, and what each chip finds."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from features import selectors, services
from features.models import Feature
from features.search import parse
from features.selectors.context_hits import spans_of

SOURCE = "1-res-topk"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("assertEqual", {"words": ("assertEqual",)}),
        ('"capital of" city', {"words": ("capital of", "city")}),
        ('label:date ctx:"import os" tok:def', {"labels": ("date",), "contexts": ("import os",), "tokens": ("def",)}),
        ('promotes:" Paris"', {"promotes": (" Paris",)}),
        ("density:<1%", {"density_high": 0.01}),
        ("density:1%", {"density_high": 0.01}),
        ("density:>0.05", {"density_low": 0.05}),
        ("density:0.1-2%", {"density_low": 0.001, "density_high": 0.02}),
        ("density:<5% density:<1%", {"density_high": 0.01}),
        ("density:many", {"ignored": ("density:many",)}),
        ("https://x", {"words": ("https://x",)}),
        ('"unclosed quote', {"words": ("unclosed quote",)}),
        ("tok:", {"words": ("tok:",)}),
        ("", {}),
    ],
)
def test_queries_are_parsed(text, expected):
    query = parse(text)
    fields = ("words", "labels", "contexts", "tokens", "promotes", "density_low", "density_high", "ignored")
    found = {name: getattr(query, name) for name in fields if getattr(query, name) not in ((), None)}
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == (pytest.approx(value) if isinstance(value, float) else value)


def test_nothing_that_is_typed_is_an_error(world):
    for text in (
        "\0",
        "a" * 5000,
        "((((",
        "';--",
        "\\",
        "tok:\\",
        '""',
        "ctx:!!",
        "%s",
        "density:>%",
        "'a':*",
        "é東京",
        "\ud800 tok:\ud800 ctx:\ud800 label:\ud800",
    ):
        selectors.search(text)


@pytest.mark.parametrize(
    ("query", "text", "matches"),
    [
        ("assertEqual", "self.assertEqual(a, b)", True),
        ("assert_equal", "self.assertEqual(a, b)", True),
        ("self.assertEqual", "self.assertEqual(a, b)", True),
        ("equal assert", "self.assertEqual(a, b)", False),
        ("assertEq", "self.assertEqual(a, b)", True),
        ("Equal", "self.assertEqual(a, b)", True),
        ("sert", "self.assertEqual(a, b)", False),
        ("snake_case", "x = snake_case_name", True),
        ("HTTPServer", "class HTTPServer:", True),
        ("server", "class HTTPServer:", True),
        ("bar", "foo/bar.py", True),
        ("größe", "def größe_von():", True),
        ("for", "for x in y", True),
    ],
)
def test_words_of_code_are_found_whatever_their_convention(db, query, text, matches):
    with connection.cursor() as cursor:
        cursor.execute("SELECT facet_code_vector(%s) @@ facet_code_query(%s)", [text, query])
        assert cursor.fetchone() == (matches,)
    assert bool(spans_of(text, [query])) == matches


def test_explanations_are_found_by_words_in_any_order_and_inflection(world, user):
    row = world.dictionaries[SOURCE]
    services.explanations.label(dictionary=row.pk, index=5, text="Dates inside loops", user=user)
    for query in ("date", "loop date", '"dates inside"', "label:loops", "dates label:inside"):
        [found] = selectors.search(query, model="tiny").explanations
        assert (found.source, found.index, found.matched) == (SOURCE, 5, "ada: Dates inside loops")
    assert selectors.search('"inside dates"').explanations == ()


def test_people_come_before_methods(world, user):
    services.explanations.label(dictionary=world.dictionaries[SOURCE].pk, index=6, text="feature by hand", user=user)
    assert selectors.search("feature").explanations[0].matched.startswith("ada:")


def test_tokens_are_found_where_features_peak_on_or_promote_them(world):
    results = selectors.search("tok:self", source=SOURCE)
    dashboard = world.parts.result.dashboards[SOURCE]
    ids = [i for i, text in enumerate(world.parts.facts.vocabulary) if text.strip().casefold() == "self"]
    shares = {
        index: sum(
            share
            for token, share in zip(
                dashboard.peak_token_ids_fk[index], dashboard.peak_token_shares_fk[index], strict=True
            )
            if token in ids
        )
        for index in range(dashboard.n_features)
    }
    expected = sorted((index for index in shares if shares[index]), key=lambda index: (-shares[index], index))
    assert [row.index for row in results.peak_tokens] == expected[:20]
    assert "peaks on “" in results.peak_tokens[0].matched
    assert results.promoted_tokens == results.contexts == results.explanations == ()
    promoted = selectors.search("promotes:self", source=SOURCE).promoted_tokens
    assert {row.index for row in promoted} <= {
        index for index in range(dashboard.n_features) if set(ids) & set(dashboard.promoted_ids_fk[index].tolist())
    }


def test_chips_restrict_every_column(world):
    everything = selectors.search("self", source=SOURCE, limit=100)
    rare = selectors.search("self density:<1%", source=SOURCE, limit=100)
    for column in ("explanations", "peak_tokens", "promoted_tokens"):
        kept = [row for row in getattr(everything, column) if row.density <= 0.01]
        assert [row.index for row in getattr(rare, column)] == [row.index for row in kept]
    assert rare.terms == ("“self”", "density at most 0.01")
    only = selectors.search("density:<1%", source=SOURCE, limit=100).explanations
    assert only and all(row.density <= 0.01 for row in only)


def test_contexts_are_found_with_the_features_that_peak_in_them(world):
    results = selectors.search('ctx:"add argument"', limit=100)
    assert results.contexts and any(len(hit.features) > 1 for hit in results.contexts)
    for hit in results.contexts:
        for start, end in hit.matched:
            assert hit.text[start:end].lower().replace("_", " ").replace("-", " ").startswith("add argument")
    first = results.contexts[0]
    ordinal = int(first.document_url.split("/")[3].split("#")[0])
    assert "add" in selectors.document("some-files", ordinal).lines[first.line - 1].lower()
    # A context chip beside a word keeps features that peak in such a context.
    dictionary = {row.source: row.pk for row in world.dictionaries.values()}
    for row in selectors.search('self ctx:"add argument"').peak_tokens:
        groups = selectors.example_groups(dictionary[row.source], row.index, 100)
        texts = [example.text for group in groups if group.code == 0 for example in group.examples]
        assert any(spans_of(text, ["add argument"]) for text in texts)


@pytest.mark.parametrize("query", ["self", "self ctx:add label:token tok:self promotes:self density:<50%"])
def test_the_number_of_queries_is_fixed(world, query):
    with CaptureQueriesContext(connection) as one:
        selectors.search(query, source=SOURCE)
    with CaptureQueriesContext(connection) as all_:
        selectors.search(query)
    assert len(one) <= len(all_) <= 12


def test_search_prunes_to_the_dictionaries_of_its_scope(world):
    with CaptureQueriesContext(connection) as queries:
        selectors.search("self", source=SOURCE)
    statements = [query["sql"] for query in queries if "features_feature f" in query["sql"]]
    assert statements
    other = world.dictionaries["2-res-jump"].pk
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(f"EXPLAIN {statement}")
            assert f"{Feature._meta.db_table}_{other} " not in "\n".join(line for (line,) in cursor.fetchall())
