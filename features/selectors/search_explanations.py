"""The leg of search that finds features by what is said about them.

A word that is in a tenth of a million explanations cannot be ranked by looking at all of them. The index
`explanation_places` has each word under the tier of its explanation, which says what ranks first whatever is asked:
whether a person wrote it, whether it says one thing (no list, no remark in brackets), and how short it is; the first
word a second time, behind a `^`. So common words are read tier by tier, the best first, and what has not been read when
there is enough would come after. All that matches rarer ones is read and ranked.
"""

from __future__ import annotations

from collections.abc import Sequence

from django.db import connection

from features.selectors.feature_rows import array_of
from features.selectors.search_postings import split
from features.selectors.search_sql import CANDIDATES, Chips, Found

# As many explanations in a sample of the table's pages, given in percent, are enough to be read tier by tier: those of
# one word sooner than those of several, of which a tier tells less. Whether they are changes how long a search takes,
# and how far it counts, not what it finds.
SAMPLE, COMMON, COMMON_TOGETHER = 0.5, 10, 40
# Explanations that are ranked whole, whatever the sample says.
MANY = 20_000
# So many features are few enough to read all their explanations; and so many, found by other chips, to look them up.
NARROW, CHOSEN = 20_000, 5_000
# The tiers, the best first: people's, whatever their length, then those of methods by length.
_TIERS = [f"a{is_list}00" for is_list in (0, 1)] + [f"b{is_list}{n:02x}" for is_list in (0, 1) for n in range(48)]
_COLUMNS = 'e.id, e.dictionary_id, e."index", e.text, e.author_id, e.method, e.votes'
# `whole` is what an explanation must match; `anywhere` and `start` say the same of the words in a tier, whose code
# stands for @, and of the first word; where they say less than `whole`, `is_more` is true. Phrases without any word
# match nothing.
_ASKED = """
asked AS MATERIALIZED (
    SELECT whole, words, first, n > 1 OR whole::text ~ '<' AS is_more,
           CASE WHEN n > 1 OR whole::text ~ '<' THEN {together} ELSE {common} END AS common,
           quote_literal('^@' || split_part(first, ' ', 1)) AS start,
           regexp_replace(regexp_replace(whole::text, '<->|<[0-9]+>', '&', 'g'),
                          '''([^'']+)''', '''@\\1''', 'g') AS anywhere
    FROM (
        SELECT string_agg('(' || facet_prose_query(phrase)::text || ')', ' & ')::tsquery AS whole, count(*) AS n,
               lower(btrim(facet_words(string_agg(phrase, ' ')))) AS words,
               lower(btrim(facet_words((array_agg(phrase))[1]))) AS first
        FROM unnest(%s::text[]) phrase HAVING bool_and(numnode(facet_prose_query(phrase)) > 0)
    ) said
)"""
# Those that begin with the first word come first, then those that begin with a longer form of it. The materialized
# `matching` is read no further than `few` needs, but planned as if it were: by its index.
_BEST = """
seen AS MATERIALIZED (
    SELECT count(*) AS n FROM asked CROSS JOIN features_explanation e TABLESAMPLE SYSTEM ({sample}) REPEATABLE (1)
    WHERE e.words @@ asked.whole AND {among}
), matching AS MATERIALIZED (
    SELECT {columns} FROM asked CROSS JOIN features_explanation e
    WHERE (SELECT n FROM seen) < asked.common AND e.words @@ asked.whole AND {among}
), few AS MATERIALIZED (
    SELECT * FROM matching LIMIT {many}
), tiers AS (
    SELECT replace(kind.pattern, '@', tier.code)::tsquery AS wanted
    FROM asked CROSS JOIN unnest(%s::text[]) WITH ORDINALITY tier(code, place) CROSS JOIN LATERAL (VALUES
        (1, start), (2, format('%%1$s:* & !%%1$s', start)), (3, format('(%%s) & !%%s:*', anywhere, start))
    ) kind(place, pattern)
    ORDER BY starts_with(tier.code, 'a') DESC, kind.place, tier.place
), best AS MATERIALIZED (
    SELECT found.* FROM asked CROSS JOIN tiers CROSS JOIN LATERAL (
        SELECT {columns} FROM features_explanation e
        WHERE facet_places(e.words, e.author_id, e.text) @@ tiers.wanted
            AND (NOT asked.is_more OR e.words @@ asked.whole) AND ({among}) IS TRUE
        ORDER BY length(e.text), e.votes DESC, e.dictionary_id, e."index" LIMIT {limit}
    ) found
    WHERE (SELECT n FROM seen) >= asked.common OR (SELECT count(*) FROM few) >= {many} LIMIT {limit}
), found AS (
    SELECT * FROM best UNION ALL SELECT * FROM few WHERE NOT EXISTS (SELECT FROM best)
)"""
# Of dictionaries with few features: what is rare is found by the index of words, what is common by reading them all.
_NARROW = """
seen AS MATERIALIZED (
    SELECT count(*) AS n FROM asked CROSS JOIN features_explanation e TABLESAMPLE SYSTEM ({sample}) REPEATABLE (1)
    WHERE e.words @@ asked.whole
), found AS MATERIALIZED (
    SELECT {columns} FROM asked CROSS JOIN features_explanation e
    WHERE (SELECT n FROM seen) < asked.common AND e.words @@ asked.whole AND ({among}) IS TRUE
    UNION ALL
    SELECT {columns} FROM asked CROSS JOIN features_explanation e
    WHERE (SELECT n FROM seen) >= asked.common AND (e.words @@ asked.whole) IS TRUE AND {among}
)"""
# Of features that other chips have found.
_CHOSEN = """
found AS MATERIALIZED (
    SELECT {columns}
    FROM asked CROSS JOIN unnest(%s::int[], %s::int[]) chosen(dictionary_id, "index")
    JOIN features_explanation e ON e.dictionary_id = chosen.dictionary_id AND e."index" = chosen."index"
    WHERE (e.words @@ asked.whole) IS TRUE
)"""
_ORDER = 'e.author_id IS NULL, e.place, e.is_list, e.length, e.votes DESC, e.dictionary_id, e."index"'
_RANKED = f"""
hits AS (
    SELECT e.*, (e.text ~ '[,;(]')::int AS is_list, length(e.text) AS length, CASE
        WHEN NOT starts_with(own.words, asked.first) THEN 3
        WHEN own.words = asked.words AND e.text !~ '[,;(]' THEN 0
        WHEN starts_with(own.words || ' ', asked.first || ' ') THEN 1
        ELSE 2 END AS place
    FROM found e CROSS JOIN asked CROSS JOIN LATERAL (SELECT lower(btrim(facet_words(e.text))) AS words OFFSET 0) own
), ranked AS (
    SELECT *, row_number() OVER (PARTITION BY dictionary_id, "index"
                                 ORDER BY author_id IS NULL, place, is_list, length, votes DESC, id) AS nth
    FROM hits
), shown AS MATERIALIZED (
    SELECT e.*, count(*) OVER () AS total FROM ranked e WHERE e.nth = 1 ORDER BY {_ORDER} LIMIT %s
)
SELECT e.dictionary_id, e."index", e.text, a.username, e.method, e.total, {{capped}}
FROM shown e LEFT JOIN auth_user a ON a.id = e.author_id ORDER BY {_ORDER}
"""


def by_explanation(chips: Chips, phrases: Sequence[str], limit: int) -> Found:
    """Return features with an explanation that has all phrases, and what it says. One query.

    People's come before methods'; then those that are the phrases, begin with the first, begin with a longer form of
    it; then those that say one thing, without a list or a remark in brackets; then the shorter, those with more votes.
    Of phrases that are in very many explanations those are read that come first in this order, until CANDIDATES
    are found: what is shown is exact, only the number is a lower bound. Of dictionaries with few features, and
    of features that other chips have found, all are ranked; of more than CHOSEN such features the surest.
    """
    if not chips.scope:
        return Found(why={})
    phrases, capped = list(dict.fromkeys(phrases)), "FALSE"
    if chips.among is not None:
        candidates = _CHOSEN.format(columns=_COLUMNS)
        params = [array_of(part) for part in split(chips.among[:CHOSEN])]
        capped = str(len(chips.among) > CHOSEN)
    elif chips.is_restricted and sum(dictionary.n_features for dictionary in chips.scope.values()) <= NARROW:
        candidates, params = _within(_NARROW, chips)
        params = [*params, *params]
    else:
        candidates, params = _within(_BEST, chips, limit=CANDIDATES, many=MANY)
        params = [*params, *params, _TIERS, *params]
        capped = f"(SELECT count(*) FROM best) >= {CANDIDATES}"
    asked = _ASKED.format(common=COMMON, together=COMMON_TOGETHER)
    with connection.cursor() as cursor:
        cursor.execute(f"WITH {asked}, {candidates}, {_RANKED.format(capped=capped)}", [phrases, *params, limit])
        rows = cursor.fetchall()
    return Found(
        why={
            (dictionary, index): f"{author or method}: {text}" for dictionary, index, text, author, method, *_ in rows
        },
        total=rows[0][-2] if rows else 0,
        capped=bool(rows) and rows[0][-1],
    )


def _within(template: str, chips: Chips, **values: int) -> tuple[str, list[str]]:
    """Return a statement among the explanations of the scope, and the parameters of each condition that says so."""
    among, params = "TRUE", []
    if chips.is_restricted:
        among, params = "e.dictionary_id = ANY(%s::int[])", [array_of(chips.scope)]
    return template.format(columns=_COLUMNS, among=among, sample=SAMPLE, **values), params
