"""Functions and indexes that Django has no operation for."""

# Text becomes words in the same way for every naming convention of code: `assertEqual`, `assert_equal`,
# `assert.equal` and "assert equal" are all the words `assert equal`. Postgres' own parser alone would keep
# `self.assertEqual` as one host name and `foo/bar.py` as one path, and find nothing inside them. Bodies are bound when
# they are defined, so that a restored dump does not depend on the search path. The LIMIT keeps Postgres from inlining
# `facet_code_vector`, and thereby its cost in sight: a plan that computes it for every context is a hundred times
# slower than the index.
FUNCTIONS = r"""
CREATE FUNCTION facet_words(value text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
    regexp_replace(
        regexp_replace(
            regexp_replace(value, '([[:lower:][:digit:]])([[:upper:]])', '\1 \2', 'g'),
            '([[:upper:]]+)([[:upper:]][[:lower:]])', '\1 \2', 'g'
        ),
        '[^[:alnum:]]+', ' ', 'g'
    );
CREATE FUNCTION facet_code_vector(value text) RETURNS tsvector LANGUAGE sql IMMUTABLE PARALLEL SAFE COST 20000
BEGIN ATOMIC
    SELECT to_tsvector('simple'::regconfig, facet_words(value)) LIMIT 1;
END;
CREATE FUNCTION facet_code_query(value text) RETURNS tsquery LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
    CASE
        WHEN numnode(phraseto_tsquery('simple'::regconfig, facet_words(value))) = 0 THEN ''::tsquery
        ELSE (phraseto_tsquery('simple'::regconfig, facet_words(value))::text || ':*')::tsquery
    END;
CREATE FUNCTION facet_prose_vector(value text) RETURNS tsvector LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
    to_tsvector('simple'::regconfig, facet_words(value)) || to_tsvector('english'::regconfig, facet_words(value));
CREATE FUNCTION facet_prose_query(value text) RETURNS tsquery LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN
    facet_code_query(value) || phraseto_tsquery('english'::regconfig, facet_words(value));
"""
DROP_FUNCTIONS = """
DROP FUNCTION facet_prose_query(text), facet_prose_vector(text);
DROP FUNCTION facet_code_query(text), facet_code_vector(text), facet_words(text);
"""

# Indexes of partitioned tables: features.partitions gives each new partition the same ones after it is filled. Their
# pages are full: nothing is added later.
# Packed bytes do not compress further.
INDEXES = """
CREATE INDEX feature_firing ON features_feature (dictionary_id, firing_count, index) WITH (fillfactor = 100);
CREATE INDEX feature_maximum ON features_feature (dictionary_id, maximum, index) WITH (fillfactor = 100);
CREATE INDEX feature_entropy ON features_feature (dictionary_id, token_entropy, index) WITH (fillfactor = 100);
CREATE INDEX context_words ON features_context USING gin (facet_code_vector(text));
ALTER TABLE features_feature ALTER COLUMN packed SET STORAGE EXTERNAL;
ALTER TABLE features_example ALTER COLUMN packed SET STORAGE EXTERNAL;
ALTER TABLE features_tokenfeature ALTER COLUMN packed SET STORAGE EXTERNAL;
"""
