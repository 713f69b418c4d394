"""The index by which search reads explanations in the order in which it shows them.

A word that is in a tenth of a million explanations cannot be ranked by looking at all of them. So each word of an
explanation is indexed under the explanation's tier, which says what ranks first whatever is asked: whether a person
wrote it, whether it says one thing (no list, no remark in brackets), and how short it is. `facet_best_explanations`
goes through the tiers, the best first, and stops where it has enough: what it has not read would come after. What is in
fewer than `n_few` explanations it returns whole. The first
word is indexed a second time, behind a `^`, because what begins with a phrase comes before what only has it.
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
CREATE FUNCTION facet_best_explanations(
    phrases text[], dictionaries integer[], n_beginning integer, n_any integer, n_few integer
)
RETURNS TABLE (id bigint, begins boolean) LANGUAGE plpgsql
SET enable_seqscan = off SET enable_indexscan = off AS $$
DECLARE
    whole tsquery;    -- what an explanation must match
    pattern text;     -- the same of the words in a tier, whose code stands for @
    first_word text := split_part(lower(btrim(facet_words(phrases[1]))), ' ', 1);
    ending text := CASE WHEN lower(btrim(facet_words(phrases[1]))) LIKE '% %' THEN '' ELSE ':*' END;
    patterns text[];
    code text;
    wanted tsquery;
    plan json;
    n integer;
    n_read integer;
BEGIN
    SELECT string_agg('(' || facet_prose_query(phrase)::text || ')', ' & ')::tsquery INTO whole
    FROM unnest(phrases) phrase WHERE numnode(facet_prose_query(phrase)) > 0;
    IF whole IS NULL OR (SELECT bool_or(numnode(facet_prose_query(phrase)) = 0) FROM unnest(phrases) phrase) THEN
        RETURN;
    END IF;
    -- What is in few explanations needs no order: all are read. Of several words at once the planner knows too little.
    EXECUTE format('EXPLAIN (FORMAT JSON) SELECT FROM features_explanation WHERE words @@ %L', whole) INTO plan;
    IF cardinality(phrases) > 1 OR ending = '' OR (plan -> 0 -> 'Plan' ->> 'Plan Rows')::float < n_few * 6 THEN
        RETURN QUERY
            SELECT e.id, ltrim(lower(e.text), ' "''`([{<') LIKE first_word || '%' FROM features_explanation e
            WHERE e.words @@ whole AND (dictionaries IS NULL OR e.dictionary_id = ANY(dictionaries)) LIMIT n_few;
        GET DIAGNOSTICS n = ROW_COUNT;
        IF n < n_few THEN
            RETURN;
        END IF;
    END IF;
    pattern := regexp_replace(regexp_replace(whole::text, '<->|<[0-9]+>', '&', 'g'), '''([^'']+)''', '''@\1''', 'g');
    patterns := ARRAY[format('''^@%s''', first_word), format('''^@%s''%s', first_word, ending), pattern];
    FOR kind IN 1..3 LOOP
        -- What begins with the word itself is among what begins with a longer form of it.
        CONTINUE WHEN first_word = '' AND kind < 3;
        CONTINUE WHEN kind = 2 AND (ending = '' OR n_read >= n_beginning);
        n_read := 0;
        FOR code IN
            SELECT head || lpad(to_hex(length_of), 2, '0')
            FROM unnest(ARRAY['a0', 'a1', 'b0', 'b1']) WITH ORDINALITY heads(head, place)
            CROSS JOIN generate_series(0, 47) length_of WHERE place > 2 OR length_of = 0 ORDER BY place, length_of
        LOOP
            EXIT WHEN n_read >= CASE WHEN kind = 3 THEN n_any ELSE n_beginning END;
            wanted := replace(patterns[kind], '@', code)::tsquery;
            RETURN QUERY
                SELECT e.id, kind < 3 FROM features_explanation e
                WHERE facet_places(e.words, e.author_id, e.text) @@ wanted AND (e.words @@ whole) IS TRUE
                    AND (dictionaries IS NULL OR e.dictionary_id = ANY(dictionaries));
            GET DIAGNOSTICS n = ROW_COUNT;
            n_read := n_read + n;
        END LOOP;
    END LOOP;
END
$$;
"""
DROP_PLACES = """
DROP FUNCTION facet_best_explanations(text[], integer[], integer, integer, integer);
DROP INDEX explanation_places;
DROP FUNCTION facet_places(tsvector, integer, text), facet_tier(integer, text);
"""
