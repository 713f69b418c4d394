"""The index by which search reads explanations in the order in which it shows them.

A word that is in a tenth of a million explanations cannot be ranked by looking at all of them. So each word of an
explanation is indexed under the explanation's tier, which says what ranks first whatever is asked: whether a person
wrote it, whether it says one thing (no list, no remark in brackets), and how short it is. The first word is indexed a
second time, behind a `^`, because what begins with a phrase comes before what only has it. Search goes through the
tiers, the best first, and stops where it has enough (`features/selectors/search_explanations.py`).
"""

PLACES = r"""
CREATE FUNCTION facet_tier(author integer, value text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
    CASE WHEN author IS NULL THEN 'b' ELSE 'a' END
    || CASE WHEN value ~ '[,;(]' THEN '1' ELSE '0' END
    || lpad(to_hex(CASE
        WHEN author IS NOT NULL THEN 0
        ELSE width_bucket(length(value), ARRAY[
            6, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34,
            35, 36, 37, 38, 39, 40, 42, 44, 46, 48, 52, 56, 64, 72, 80, 96, 112, 128, 160, 192
        ])
    END), 2, '0');
CREATE FUNCTION facet_places(words tsvector, author integer, value text) RETURNS tsvector
LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN (
    SELECT array_to_tsvector(array_agg(tier.code || word.lexeme) || array_agg('^' || tier.code || word.lexeme)
                             FILTER (WHERE word.positions[1] = 1))
    FROM (SELECT facet_tier(author, value) AS code) tier CROSS JOIN LATERAL unnest(words) AS word
);
CREATE INDEX explanation_places ON features_explanation USING gin (facet_places(words, author_id, text));
"""
DROP_PLACES = """
DROP INDEX explanation_places;
DROP FUNCTION facet_places(tsvector, integer, text), facet_tier(integer, text);
"""
