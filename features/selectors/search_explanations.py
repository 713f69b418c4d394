"""The leg of search that finds features by what is said about them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import connection

from features.selectors.feature_rows import array_of
from features.selectors.search_sql import CANDIDATES, Chips, Found

# What begins with the phrase and is ranked for certain, times the hits asked for: a feature may have several.
BEGINNING = 4
# Of fewer explanations all are ranked.
FEW = 5000
_BEST = "SELECT id, begins FROM facet_best_explanations(%s::text[], {dictionaries}, %s, %s, %s)"
# Where chips ask something of the feature as well: the explanations that match, in no order, with their features.
_CHOSEN = """
SELECT e.id, starts_with(lower(btrim(facet_words(e.text))), asked.first) AS begins
FROM features_explanation e
JOIN features_feature f ON f.dictionary_id = e.dictionary_id AND f."index" = e."index"
JOIN features_dictionary d ON d.id = e.dictionary_id
CROSS JOIN (SELECT lower(btrim(facet_words(%s))) AS first) asked
WHERE e.dictionary_id = ANY(%s::int[]) AND f.dictionary_id = ANY(%s::int[]) AND {match} AND {clauses}
LIMIT {limit}
"""
_RANKED = """
WITH found AS MATERIALIZED ({candidates}), hits AS (
    SELECT e.id, e.dictionary_id, e."index", e.text, e.author_id, e.method, e.votes,
           (e.text ~ '[,;(]')::int AS is_list, length(e.text) AS length, CASE
               WHEN NOT c.begins THEN 3
               WHEN lower(btrim(facet_words(e.text))) = asked.words AND e.text !~ '[,;(]' THEN 0
               WHEN starts_with(lower(btrim(facet_words(e.text))) || ' ', asked.first || ' ') THEN 1
               WHEN starts_with(lower(btrim(facet_words(e.text))), asked.first) THEN 2
               ELSE 3 END AS place
    FROM (SELECT id, bool_or(begins) AS begins FROM found GROUP BY id) c
    JOIN features_explanation e ON e.id = c.id
    CROSS JOIN (SELECT lower(btrim(facet_words(%s))) AS words, lower(btrim(facet_words(%s))) AS first) asked
), best AS (
    SELECT *, row_number() OVER (PARTITION BY dictionary_id, "index"
                                 ORDER BY author_id IS NULL, place, is_list, length, votes DESC, id) AS nth
    FROM hits
)
SELECT e.dictionary_id, e."index", e.text, a.username, e.method, count(*) OVER (), (SELECT count(*) FROM hits)
FROM best e LEFT JOIN auth_user a ON a.id = e.author_id WHERE e.nth = 1
ORDER BY e.author_id IS NULL, e.place, e.is_list, e.length, e.votes DESC, e.dictionary_id, e."index"
LIMIT %s
"""


def by_explanation(chips: Chips, phrases: Sequence[str], limit: int) -> Found:
    """Return features with an explanation that has all phrases, and what it says. One query.

    People's come before methods'; then those that are the phrases, begin with the first, begin with a longer form of
    it; then those that say one thing, without a list or a remark in brackets; then the shorter, those with more votes.
    Of phrases that are in very many explanations those are read that come first in this order, until CANDIDATES are
    found: what is shown is exact, only the number is a lower bound. Where chips ask something of the features too, any
    CANDIDATES of a model's explanations are ranked.
    """
    if not chips.scope:
        return Found(why={})
    phrases = list(dict.fromkeys(phrases))
    candidates, params = _chosen(chips, phrases) if chips.on_features else _best(chips, phrases, limit)
    with connection.cursor() as cursor:
        cursor.execute(_RANKED.format(candidates=candidates), [*params, " ".join(phrases), phrases[0], limit])
        rows = cursor.fetchall()
    return Found(
        why={
            (dictionary, index): f"{author or method}: {text}" for dictionary, index, text, author, method, *_ in rows
        },
        total=rows[0][-2] if rows else 0,
        capped=bool(rows) and rows[0][-1] >= (CANDIDATES if chips.on_features else FEW),
    )


def _best(chips: Chips, phrases: Sequence[str], limit: int) -> tuple[str, list[Any]]:
    dictionaries, params = "NULL", []
    if chips.is_restricted:
        dictionaries, params = "%s::int[]", [array_of(chips.scope)]
    return _BEST.format(dictionaries=dictionaries), [list(phrases), *params, BEGINNING * limit, CANDIDATES, FEW]


def _chosen(chips: Chips, phrases: Sequence[str]) -> tuple[str, list[Any]]:
    match = " AND ".join("e.words @@ facet_prose_query(%s)" for _ in phrases)
    branches, params = [], []
    for model, dictionaries in chips.models().items():
        clauses, chip_params = chips.clauses(model, labels=False)
        branches.append(f"({_CHOSEN.format(match=match, clauses=clauses, limit=CANDIDATES)})")
        listed = array_of(dictionaries)
        params += [phrases[0], listed, listed, *phrases, *chip_params]
    return " UNION ALL ".join(branches), params
