"""Search: the language of the box, and what each chip finds."""

import dataclasses

import numpy as np
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from features import selectors, services
from features.models import Explanation, Feature
from features.results import SearchTotals
from features.search import parse
from features.selectors.context_hits import LENGTH, LINES, matching, snippet, spans_of
from features.selectors.suggestions import UnknownAddress
from features.statistics import wilson_interval

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
        ("tok:", {"ignored": ("tok:",)}),
        ("tok: raise", {"tokens": ("raise",)}),
        ("raise OR except", {"words": ("raise", "except"), "ignored": ("OR",)}),
        ('"OR" "foo:bar"', {"words": ("OR", "foo:bar")}),
        ("foo:bar", {"ignored": ("foo:bar",)}),
        ("density:<zz layer:zz", {"ignored": ("density:<zz", "layer:zz")}),
        ("layer:1", {"layers": (1, 1)}),
        ("layer:1-5 layer:3-9", {"layers": (3, 5)}),
        ('raise -except -"as e"', {"words": ("raise",), "excluded": ("except", "as e")}),
        ("raise -tok:x", {"words": ("raise",), "ignored": ("-tok:x",)}),
        ("-raise", {"ignored": ("only -raise",)}),
        ("raise raise tok:a tok:a", {"words": ("raise",), "tokens": ("a",)}),
        ("density:2%-1%", {"density_low": 0.01, "density_high": 0.02}),
        ("a b c d e f g h i j k l m n o", {"words": tuple("abcdefghijkl"), "ignored": ("beyond 12 terms",)}),
        ("f(x: int) -> --help", {"words": ("f(x:", "int)", "->", "--help")}),
        ("", {}),
    ],
)
def test_queries_are_parsed(text, expected):
    query = parse(text)
    found = {field.name: getattr(query, field.name) for field in dataclasses.fields(query) if field.name != "text"}
    found = {name: value for name, value in found.items() if value not in ((), None)}
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
        ("FOR X", "for x in y", True),
        ("for i", "for x in index", False),
        ("don't", "they don’t", True),
        ("don't", "don taut", True),
        ("don't", "t don", False),
        ("café au", "un CAFÉ -- au lait", True),
        ("日本 語", "日本、語", True),
        ("a.b.c", "schema.bc", False),
        ("parseHTTPServer", "def parse_http_server2(x)", True),
    ],
)
def test_words_of_code_are_found_whatever_their_convention(db, query, text, matches):
    with connection.cursor() as cursor:
        cursor.execute("SELECT facet_code_vector(%s) @@ facet_code_query(%s)", [text, query])
        assert cursor.fetchone() == (matches,)
        condition, params = matching([query], [])
        cursor.execute(f"SELECT {condition} FROM (SELECT %s::text AS text) c", [*params, text])
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


def test_the_nearest_and_shortest_explanations_come_first(world):
    row = world.dictionaries[SOURCE]
    said = (
        "after zebra in a long line of other words that say little",
        "zebras",
        "a zebra",
        '"zebra" at the start of a line',
        "Zebra",
        '"zebra", "(", "_"',
        '"zebra" (fires 2 times)',
    )
    Explanation.objects.bulk_create(
        Explanation(dictionary=row, index=index, text=text, method="other") for index, text in enumerate(said)
    )
    found = selectors.search("zebra").explanations
    assert [hit.index for hit in found] == [4, 3, 5, 6, 1, 2, 0]
    assert selectors.search("zebra").explanations == found


def test_totals_count_what_is_not_shown(world):
    few, all_ = selectors.search("token", source=SOURCE, limit=2), selectors.search("token", source=SOURCE, limit=100)
    assert len(few.explanations) == 2 < few.totals.explanations == len(all_.explanations)
    few, all_ = selectors.search("self", limit=1), selectors.search("self", limit=100)
    assert few.totals == all_.totals
    for kind in ("peak_tokens", "promoted_tokens", "contexts"):
        assert len(getattr(few, kind)) == 1
        assert getattr(few.totals, kind) >= len(getattr(all_, kind)) > 1
    assert few.totals.capped == ()


def test_layers_and_excluded_words_restrict(world, user):
    assert {row.source for row in selectors.search("self layer:2").peak_tokens} == {"2-res-jump"}
    assert {row.source for row in selectors.search("layer:1", limit=5).explanations} == {SOURCE}
    assert selectors.search("self layer:7-9").totals == SearchTotals()
    row = world.dictionaries[SOURCE]
    services.explanations.label(dictionary=row.pk, index=5, text="an okapi asleep", user=user)
    services.explanations.label(dictionary=row.pk, index=6, text="an okapi awake", user=user)
    assert [hit.index for hit in selectors.search("okapi -asleep").explanations] == [6]
    assert [hit.index for hit in selectors.search("layer:1 label:okapi -asleep").explanations] == [6]
    kept = selectors.search("add -self", limit=100)
    assert 0 < kept.totals.contexts < selectors.search("add", limit=100).totals.contexts
    assert not any(spans_of(hit.text, ["self"]) for hit in kept.contexts)


def test_tokens_are_compared_as_they_are_where_white_space_is_asked_for(world):
    row = world.dictionaries[SOURCE]
    spaced = [token for token in row.model.tokens.all() if token.text == " self"]
    assert len(spaced) == 1 and row.model.tokens.filter(folded="self").count() > 1
    either = {hit.index: hit.matched for hit in selectors.search("tok:self", source=SOURCE, limit=100).peak_tokens}
    exactly = {hit.index: hit.matched for hit in selectors.search('tok:" self"', source=SOURCE, limit=100).peak_tokens}
    assert exactly and exactly.keys() < either.keys()
    assert all(said.startswith("peaks on “ self”") for said in exactly.values())
    lines = selectors.search(r'tok:"\n"', source=SOURCE).peak_tokens
    assert lines and all(hit.matched.startswith("peaks on “\n”") for hit in lines)


def test_signs_are_looked_for_beside_words(world):
    everywhere = selectors.search("self", limit=100).totals.contexts
    results = selectors.search("self ==", limit=100)
    assert 0 < results.totals.contexts < everywhere
    assert [row.matched for row in results.explanations] == [
        row.matched for row in selectors.search("self", limit=100).explanations
    ]
    assert selectors.search("==", limit=100).contexts == ()


def test_phrases_are_words_in_their_order(world):
    phrase = selectors.search('ctx:"return self"', limit=100)
    both = selectors.search("ctx:return ctx:self", limit=100)
    assert 0 < phrase.totals.contexts < both.totals.contexts
    assert all(spans_of(hit.text, ["return self"]) for hit in phrase.contexts)
    begun = selectors.search('ctx:"return s"', limit=100)
    assert begun.totals.contexts >= phrase.totals.contexts
    assert all(spans_of(hit.text, ["return s"]) for hit in begun.contexts)
    one = selectors.search('ctx:"return self" -def', limit=100)
    assert one.totals.contexts < phrase.totals.contexts


def test_a_source_that_nobody_has_is_an_error(world):
    with pytest.raises(UnknownAddress) as error:
        selectors.search("self", source="1-res-tpok")
    assert error.value.details["suggestions"][0] == f"/tiny/{SOURCE}"


def test_tokens_are_found_where_features_peak_on_or_promote_them(world):
    results = selectors.search("tok:self", source=SOURCE)
    dashboard = world.parts.result.dashboards[SOURCE]
    ids = [i for i, text in enumerate(world.parts.facts.vocabulary) if text.strip().casefold() == "self"]
    bounds = {}
    for index in range(dashboard.n_features):
        here = np.isin(dashboard.peak_token_ids_fk[index], ids) & (dashboard.peak_token_counts_fk[index] > 0)
        n = int(dashboard.peak_token_counts_fk[index][here].sum())
        share = min(1.0, float(dashboard.peak_token_shares_fk[index][here].sum()))
        if n:
            bounds[index] = wilson_interval(share * n, n)[0]
    found = [row.index for row in results.peak_tokens]
    assert set(found) <= bounds.keys() and len(found) == min(20, len(bounds)) and len(found) > 1
    assert [bounds[index] for index in found] == pytest.approx(sorted(bounds.values(), reverse=True)[: len(found)])
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


def test_features_of_a_context_fire_at_its_match(world):
    dictionary = {row.source: row.pk for row in world.dictionaries.values()}
    hits = [hit for hit in selectors.search("ctx:self", limit=100).contexts if hit.features]
    assert hits
    for hit in hits[:10]:
        document = int(hit.document_url.split("/")[3].split("#")[0])
        for row in hit.features:
            top, *_ = selectors.example_groups(dictionary[row.source], row.index, 100)
            assert any(_fires_near(example, "self", document) for example in top.examples)


def _fires_near(example, phrase: str, document: int) -> bool:
    """Tell whether an example fires on a token of a match or next to one."""
    firing = {p for p, value in zip(example.positions, example.values, strict=True) if value > 0}
    for start, end in spans_of(example.text, [phrase]):
        inside = [i for i, (a, b) in enumerate(zip(example.starts, example.ends, strict=True)) if a < end and b > start]
        if firing & set(range(inside[0] - 1, inside[-1] + 2)):
            return f"/{document}#" in example.document_url or example.n_similar > 0
    return False


def test_snippets_show_their_first_match_and_whole_words():
    text = "".join(f"line {n} of some code\n" for n in range(30)) + "    raised = reRaise(x)\n" + "y = 1\n" * 30
    shown, matched = snippet(text, spans_of(text, ["raise"]))
    assert [shown[start:end] for start, end in matched] == ["raised", "Raise"]
    assert shown.startswith("line 29") and shown.count("\n") < LINES
    wide = "a " * 400 + "raise" + " b" * 400
    shown, matched = snippet(wide, spans_of(wide, ["raise"]))
    assert shown[slice(*matched[0])] == "raise" and shown[0] == shown[-1] == "…" and len(shown) <= LENGTH + 2
    assert snippet("", ()) == ("", ())
    spaced = "a()\n\n    raise X\n\n  \n\nb()"
    assert snippet(spaced, spans_of(spaced, ["raise"])) == ("    raise X", ((4, 9),))
    between = "a()\nraise X\n\nb()"
    assert snippet(between, spans_of(between, ["raise"]))[0] == between
    assert snippet("raise", ((0, 5),)) == ("raise", ((0, 5),))
    assert spans_of("raised", ["rai", "raise"]) == ((0, 6),)


@pytest.mark.parametrize(
    "query",
    ["self", "layer:1-2 self ctx:add -raise", "self ctx:add label:token tok:self promotes:self density:<50% -raise"],
)
def test_the_number_of_queries_is_fixed(world, query):
    with CaptureQueriesContext(connection) as one:
        selectors.search(query, source=SOURCE)
    with CaptureQueriesContext(connection) as all_:
        selectors.search(query)
    assert len(one) <= len(all_) <= 11


def test_search_prunes_to_the_dictionaries_of_its_scope(world):
    with CaptureQueriesContext(connection) as queries:
        selectors.search("self ctx:add density:<50%", source=SOURCE)
    statements = [query["sql"] for query in queries if "features_feature" in query["sql"]]
    assert len(statements) == 2
    other = world.dictionaries["2-res-jump"].pk
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(f"EXPLAIN {statement}")
            assert f"{Feature._meta.db_table}_{other} " not in "\n".join(line for (line,) in cursor.fetchall())
