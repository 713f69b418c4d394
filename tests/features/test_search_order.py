"""The order of explanations: what search reads tier by tier is what a ranking of all of them gives."""

import random

import pytest
from django.db import connection

from features import selectors
from features.models import Explanation
from features.selectors import search_explanations

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


@pytest.fixture(params=["a sample says so", "more are found"])
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
    monkeypatch.setattr(search_explanations, "COMMON", 0 if request.param == "a sample says so" else 1000)
    monkeypatch.setattr(search_explanations, "CANDIDATES", 30)


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


def test_a_word_in_very_many_is_counted_up_to_a_bound(said):
    totals = selectors.search("label:class", source=SOURCE).totals
    assert totals.capped == ("explanations",) and totals.explanations == 30


def test_what_few_say_is_ranked_whole(said, monkeypatch):
    monkeypatch.setattr(search_explanations, "CANDIDATES", 400)
    everything = Explanation.objects.mentioning("classic")
    results = selectors.search("label:classic", source=SOURCE, limit=100)
    assert results.totals.explanations == everything.count() < 400 and results.totals.capped == ()


def test_what_has_no_word_finds_nothing(said):
    assert selectors.search('label:"?!" label:class', source=SOURCE).explanations == ()
