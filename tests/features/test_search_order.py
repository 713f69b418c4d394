"""The order of explanations: what search reads tier by tier is what a ranking of all of them gives."""

import random

import pytest
from django.db import connection

from features import selectors
from features.models import Explanation, Feature
from features.selectors import search_explanations
from features.selectors.sources import tokens_like

SOURCE = "1-res-topk"
_EXACT = """
WITH hits AS (
    SELECT e.*, CASE
        WHEN lower(btrim(facet_words(text))) = asked.said AND text !~ '[,;(]' THEN 0
        WHEN starts_with(lower(btrim(facet_words(text))) || ' ', asked.first || ' ') THEN 1
        WHEN starts_with(lower(btrim(facet_words(text))), asked.first) THEN 2 ELSE 3 END AS place
    FROM features_explanation e
    CROSS JOIN (SELECT lower(btrim(facet_words(%s))) AS said, lower(btrim(facet_words(%s))) AS first) asked
    WHERE e.words @@ facet_prose_query(%s) AND e.words @@ facet_prose_query(%s)
)
SELECT "index" FROM hits
ORDER BY author_id IS NULL, place, text ~ '[,;(]', length(text), votes DESC, dictionary_id, "index" LIMIT 10
"""


TIERS = ("a sample says so", "more are found")


@pytest.fixture(params=[*TIERS, "of few features, common", "of few features, rare"])
def said(request, world, user, monkeypatch):
    """Some hundred explanations of few words, one a feature of a large dictionary, some by people, some voted for.

    What most are looked for by counts as common, for one reason or the other.
    """
    draw = random.Random(7)
    words = ("class", "classes", "classic", "of", "loop", "loops", "Python", "assertEqual", "the", "a")
    row = world.dictionaries[SOURCE]
    Explanation.objects.all().delete()
    Explanation.objects.bulk_create(
        Explanation(
            dictionary=row,
            index=index,
            text=" ".join(draw.choices(words, k=draw.randint(1, 9))) + draw.choice(["", "", ", or more", " (often)"]),
            method="" if index % 9 == 0 else "other",
            author=user if index % 9 == 0 else None,
            votes=draw.choice([0, 0, 1, 3]),
        )
        for index in range(400)
    )
    is_common = request.param in ("a sample says so", "of few features, common")
    for bound in ("COMMON", "COMMON_TOGETHER"):
        monkeypatch.setattr(search_explanations, bound, 0 if is_common else 1000)
    if request.param in TIERS:
        monkeypatch.setattr(search_explanations, "NARROW", 0)
    for bound in ("CANDIDATES", "MANY"):
        monkeypatch.setattr(search_explanations, bound, 30)
    return row


@pytest.mark.parametrize(
    "phrases",
    [("class",), ("classes",), ("loop",), ("cla",), ("class", "loop"), ("of", "the"), ("assert equal",), ("equal",)],
)
def test_what_is_shown_is_the_best_of_all(said, phrases):
    query = " ".join(f'label:"{phrase}"' for phrase in phrases)
    found = [row.index for row in selectors.search(query, source=SOURCE, limit=10).explanations]
    with connection.cursor() as cursor:
        cursor.execute(_EXACT, [" ".join(phrases), phrases[0], phrases[0], phrases[-1]])
        best = [index for (index,) in cursor.fetchall()]
    assert len(best) == 10 and found == best


@pytest.mark.parametrize("said", TIERS, indirect=True)
def test_a_word_in_very_many_is_counted_up_to_a_bound(said):
    totals = selectors.search("label:class", source=SOURCE).totals
    assert totals.capped == ("explanations",) and totals.explanations == 30


def test_what_few_say_is_ranked_whole(said, monkeypatch):
    for bound in ("CANDIDATES", "MANY"):
        monkeypatch.setattr(search_explanations, bound, 400)
    everything = Explanation.objects.mentioning("classic")
    results = selectors.search("label:classic", source=SOURCE, limit=100)
    assert results.totals.explanations == everything.count() < 400 and results.totals.capped == ()


@pytest.mark.parametrize("said", TIERS[:1], indirect=True)
def test_with_chips_the_best_that_satisfy_them_are_shown(said):
    of_feature = {row.index: row for row in Feature.objects.of(said.pk)}
    loops = of_feature.keys() & set(Explanation.objects.mentioning("loop").values_list("index", flat=True))
    [token, *_] = of_feature[min(index for index in loops if of_feature[index].peak_token_ids)].peak_token_ids
    text = said.model.tokens.get(token_id=token).folded
    alike = set(tokens_like(said.model_id, text))
    found = selectors.search(f'label:loop tok:"{text}"', source=SOURCE, limit=100)
    assert {row.index for row in found.explanations} == {
        index for index in loops if alike & set(of_feature[index].peak_token_ids)
    }
    assert found.totals.explanations == len(found.explanations) > 0
    n_tokens = said.stats["n_tokens"]
    expected = [
        row.index
        for row in selectors.search("label:loop", source=SOURCE, limit=100).explanations
        if row.index in of_feature
        and of_feature[row.index].firing_count >= 0.01 * n_tokens
        and "python" not in row.matched.lower()
    ]
    often = selectors.search("label:loop density:>1% -python", source=SOURCE, limit=100).explanations
    assert expected and [row.index for row in often][: len(expected)] == expected


def test_what_has_no_word_finds_nothing(said):
    assert selectors.search('label:"?!" label:class', source=SOURCE).explanations == ()
