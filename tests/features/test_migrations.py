"""Migrations: complete, reversible, partitioned, and without extensions that the embedded Postgres lacks."""

from django.core.management import call_command
from django.db import connection


def query(sql: str) -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall()


def test_the_models_and_the_migrations_agree(db):
    call_command("makemigrations", "features", check=True, dry_run=True, verbosity=0)


def test_what_grows_is_partitioned_from_the_first(db):
    found = dict(query("SELECT partrelid::regclass::text, pg_get_partkeydef(partrelid) FROM pg_partitioned_table"))
    assert found == {
        "features_feature": "LIST (dictionary_id)",
        "features_example": "LIST (dictionary_id)",
        "features_context": "LIST (tokenization_id)",
        "features_tokenfeature": "LIST (dictionary_id)",
    }


def test_no_extension_is_needed_but_vector(db):
    assert {name for (name,) in query("SELECT extname FROM pg_extension")} <= {"plpgsql", "vector"}


def test_the_schema_goes_and_comes_back(transactional_db):
    call_command("migrate", "features", "zero", verbosity=0)
    try:
        assert query("SELECT relname FROM pg_class WHERE relname LIKE 'features\\_%'") == []
        assert query("SELECT proname FROM pg_proc WHERE proname LIKE 'facet\\_%'") == []
    finally:
        call_command("migrate", "features", verbosity=0)


def test_functions_do_not_depend_on_the_search_path(db):
    """As when a dump is restored: with nothing in the path, an index on text must still be computed."""
    query("SELECT set_config('search_path', '', true)")
    [(found,)] = query("SELECT public.facet_prose_vector('self.assertEqual')::text")
    assert "'assert'" in found
