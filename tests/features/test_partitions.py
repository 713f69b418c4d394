"""Partitions: pruned in plans, indexed like their parents, swapped in one moment, left alone by builds that die."""

import threading

import psycopg
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from features import partitions, selectors, services
from features.models import Context, Dictionary, Example, Feature, Tokenization
from features.packed_examples import unpack
from features.rows import CONTEXT_COLUMNS, EXAMPLE_COLUMNS, STORED_FEATURE_COLUMNS, feature_rows, folds_of


def plan(queryset) -> str:
    """Return the plan of a queryset as text."""
    return queryset.explain(verbose=True)


def total_of(dashboard) -> int:
    """Return all firings of a dashboard, which tells one from another."""
    return int(dashboard.firing_count_f.sum())


def partitions_in(text: str) -> set[str]:
    return {word.split(".")[-1] for word in text.replace("(", " ").split() if word.startswith("public.features_")}


@pytest.mark.parametrize("model", [Feature, Example])
def test_a_query_that_names_its_dictionary_reads_one_partition(world, model):
    one = world.dictionaries["1-res-topk"]
    found = partitions_in(plan(model.objects.filter(dictionary_id=one.pk)))
    assert found == {f"{model._meta.db_table}_{one.pk}"}


def test_addresses_of_several_dictionaries_read_only_theirs(world):
    services.dictionaries.add_dictionary(
        path=world.parts.dictionaries["1-res-topk"], model="tiny", source="1-other-copy"
    )
    ids = [dictionary.pk for dictionary in world.dictionaries.values()]
    with CaptureQueriesContext(connection) as queries:
        selectors.feature_rows([(ids[0], 3), (ids[0], 5), (ids[1], 1)])
    [statement] = [query["sql"] for query in queries if "features_feature" in query["sql"]]
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (VERBOSE) {statement}")
        text = "\n".join(line for (line,) in cursor.fetchall())
    found = {name for name in partitions_in(text) if name.startswith("features_feature_")}
    assert found == {f"features_feature_{ids[0]}", f"features_feature_{ids[1]}"}


def test_a_page_of_one_feature_uses_the_primary_key(world):
    one = world.dictionaries["1-res-topk"]
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
    text = plan(Example.objects.filter(dictionary_id=one.pk, index=7))
    assert f"features_example_{one.pk}_pkey" in text
    text = plan(Feature.objects.filter(dictionary_id=one.pk).order_by("-firing_count", "-index")[:20])
    assert "Index Scan Backward" in text and "Sort" not in text


def test_contexts_are_found_by_words_through_their_index(world):
    """Even a word of most contexts: to compute their words anew costs far more than to read them."""
    tokenization = world.dictionaries["1-res-topk"].tokenization_id
    with connection.cursor() as cursor:
        cursor.execute(
            "EXPLAIN SELECT ordinal FROM features_context WHERE tokenization_id = %s"
            " AND facet_code_vector(text) @@ facet_code_query('the')",
            [tokenization],
        )
        text = "\n".join(line for (line,) in cursor.fetchall())
    assert f"features_context_{tokenization}" in text and "Bitmap Index Scan on context_words" in text


def test_a_partition_has_every_index_of_its_parent(world):
    one = world.dictionaries["1-res-topk"]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid"
            " WHERE c.relkind = 'i' AND c.relname LIKE %s AND c.relname NOT LIKE '%%next%%'",
            [f"%\\_{one.pk}%"],
        )
        [attached] = cursor.fetchone()
        tables = [f"features_feature_{one.pk}", f"features_example_{one.pk}"]
        cursor.execute("SELECT count(*) FROM pg_indexes WHERE tablename = ANY(%s)", [tables])
        [there] = cursor.fetchone()
        cursor.execute("SELECT count(*) FROM pg_indexes WHERE tablename IN ('features_feature', 'features_example')")
        [wanted] = cursor.fetchone()
    assert attached >= there == wanted == 5


def test_a_new_partition_is_analysed_and_mostly_frozen(world):
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relpages, relallvisible, reltuples FROM pg_class WHERE relname = %s",
            [f"features_example_{world.dictionaries['1-res-topk'].pk}"],
        )
        pages, visible, rows = cursor.fetchone()
    assert visible > pages / 2
    assert rows == len({*world.parts.result.dashboards["1-res-topk"].examples.feature_x.tolist()})


def test_the_words_of_texts_are_not_made_again_for_statistics(world):
    key = world.dictionaries["1-res-topk"].tokenization_id
    table, index = f"features_context_{key}", f"context_words_{key}"
    with connection.cursor() as cursor:
        cursor.execute(f"ANALYZE {table}")  # as autovacuum will
        cursor.execute(
            "SELECT tablename, count(*) FROM pg_stats WHERE tablename = ANY(%s) GROUP BY 1", [[table, index]]
        )
        assert dict(cursor.fetchall()) == {table: 1 + len(CONTEXT_COLUMNS)}
        cursor.execute("SELECT count(*) FROM pg_indexes WHERE indexname = %s", [index])
        assert cursor.fetchone() == (1,)


def test_what_is_stored_is_what_was_measured(world):
    source = world.dictionaries["2-res-jump"]
    dashboard = world.parts.result.dashboards["2-res-jump"]
    rows = list(Feature.objects.of(source.pk).order_by("index"))
    assert [row.index for row in rows] == list(range(dashboard.n_features))
    assert [row.firing_count for row in rows] == dashboard.firing_count_f.tolist()
    assert [row.total_4 for row in rows] == dashboard.total_fourth_f.tolist()
    assert [row.maximum for row in rows] == pytest.approx(dashboard.maximum_f.tolist())
    kept = [[token for token in tokens if token >= 0] for tokens in dashboard.peak_token_ids_fk.tolist()]
    assert [row.peak_token_ids for row in rows] == kept
    for row, tokens, counts in zip(
        rows, dashboard.peak_token_ids_fk, dashboard.peak_token_counts_fk.tolist(), strict=True
    ):
        assert row.peak_token_counts == [count for count, token in zip(counts, tokens, strict=True) if token >= 0]
    assert [row.context_count for row in rows] == dashboard.context_count_f.tolist()
    assert [row.histogram for row in rows] == dashboard.log_histogram_fb.tolist()
    assert [row.logit_histogram for row in rows] == dashboard.logit_histogram_fb.tolist()
    for row, shares in zip(rows, dashboard.band_count_fb.tolist(), strict=True):
        assert row.band_counts == pytest.approx(shares, rel=2**-11, abs=1e-6 * row.firing_count)
    for name in ("suppressed_values", "co_firing_jaccards", "decoder_neighbour_cosines", "encoder_neighbour_cosines"):
        ids = name.rpartition("_")[0] + "_ids"
        for row, id_k, value_k in zip(
            rows, getattr(dashboard, f"{ids}_fk"), getattr(dashboard, f"{name}_fk"), strict=True
        ):
            assert getattr(row, ids) == id_k[id_k >= 0].tolist()
            assert getattr(row, name) == value_k[id_k >= 0].astype("float16").tolist()


def test_examples_are_stored_as_they_were_recorded(world):
    """Every one, in the order of its feature, group and rank; values as 16-bit floats, which is what a pass records."""
    examples = world.parts.result.dashboards["2-res-jump"].examples
    stored = Example.objects.filter(dictionary_id=world.dictionaries["2-res-jump"].pk).order_by("index")
    rows = [(row.index, found) for row in stored for found in unpack(row.packed)]
    assert len(rows) == len(examples)
    for number, (index, found) in enumerate(rows):
        positions, values = examples.recorded(number)
        assert (index, found.group, found.rank, found.context, found.peak_position) == (
            examples.feature_x[number],
            examples.group_x[number],
            examples.rank_x[number],
            examples.context_x[number],
            examples.peak_position_x[number],
        )
        assert found.positions == positions.tolist()
        assert found.values == values.tolist()
        assert found.peak_value == examples.peak_value_x[number]


def test_contexts_are_stored_once_for_all_dictionaries_and_builds(world):
    world.attach()
    [tokenization] = Tokenization.objects.all()
    assert Context.objects.count() == len(world.parts.result.contexts) == tokenization.n_contexts
    assert {row.tokenization_id for row in Dictionary.objects.all()} == {tokenization.pk}


def test_equal_windows_have_equal_folds_and_others_do_not(parts):
    contexts, examples = parts.result.contexts, parts.result.dashboards["1-res-topk"].examples
    hashes = folds_of(contexts.token_ids_t, contexts.indptr_c, examples.context_x, examples.peak_position_x)
    windows = []
    for context, peak in zip(examples.context_x.tolist(), examples.peak_position_x.tolist(), strict=True):
        ids = contexts.tokens(context)[0].tolist()
        left = [-1] * max(0, 16 - peak) + ids[max(0, peak - 16) : peak]
        right = ids[peak : peak + 17]
        windows.append((*left, *right, *[-1] * (33 - len(left) - len(right))))
    assert len({*zip(windows, hashes.tolist(), strict=True)}) == len({*windows}) == len({*hashes.tolist()})


def test_a_build_that_dies_while_it_writes_leaves_the_old_rows(world):
    one = world.dictionaries["1-res-topk"]
    before = list(Feature.objects.of(one.pk).order_by("index").values_list("index", "firing_count"))

    def chunks():
        yield from feature_rows(world.parts.result.dashboards["1-res-topk"])
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        partitions.fill(partitions.features_of(one.pk), STORED_FEATURE_COLUMNS, chunks())
    assert list(Feature.objects.of(one.pk).order_by("index").values_list("index", "firing_count")) == before


def test_what_a_dead_build_left_is_replaced_by_the_next(world):
    one = world.dictionaries["1-res-topk"]
    partitions.fill(partitions.examples_of(one.pk), EXAMPLE_COLUMNS, [])  # filled, never attached
    before = Example.objects.filter(dictionary_id=one.pk).count()
    world.attach()
    assert Example.objects.filter(dictionary_id=one.pk).count() == before > 0
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_class WHERE relname LIKE '%%\\_next%%'")
        assert cursor.fetchone() == (0,)


@pytest.mark.django_db(transaction=True)
def test_readers_see_all_of_the_old_or_all_of_the_new(parts, transactional_db):
    """A reader on a connection of its own reads while dashboards are replaced by others of other counts."""
    from tests.features.conftest import CONTEXT_SIZE, World

    model = services.models.add_model(facts=parts.facts, slug="tiny")
    corpus = services.corpora.add_corpus(name="Some files", documents=parts.documents)
    row = services.dictionaries.add_dictionary(path=parts.dictionaries["1-res-topk"], model="tiny")
    world = World(parts=parts, model=model, corpus=corpus, dictionaries={"1-res-topk": row})
    world.attach(sources=("1-res-topk",))
    old = (total_of(parts.result.dashboards["1-res-topk"]),)
    new = (total_of(parts.result.dashboards["2-res-jump"]),)
    assert old != new
    seen, stop = [], threading.Event()
    parameters = connection.get_connection_params()
    wanted = {name: parameters[name] for name in ("dbname", "user", "password", "host", "port") if name in parameters}

    def read():
        with psycopg.connect(**wanted, autocommit=True) as own:
            while not stop.is_set():
                query = "SELECT sum(firing_count) FROM features_feature WHERE dictionary_id = %s"
                seen.append(own.execute(query, [row.pk]).fetchone())

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for source in ("2-res-jump", "1-res-topk", "2-res-jump"):
            services.dashboards.attach(
                corpus=corpus.pk,
                model=model.pk,
                context_size=CONTEXT_SIZE,
                contexts=parts.result.contexts,
                dashboards={row.pk: parts.result.dashboards[source]},
            )
    finally:
        stop.set()
        reader.join()
    assert set(seen) == {old, new}
    services.dictionaries.remove_dictionary(dictionary=row.pk)
    assert not partitions.exists(partitions.features_of(row.pk))


@pytest.mark.django_db(transaction=True)
def test_a_swap_that_fails_changes_nothing(parts, transactional_db, monkeypatch):
    from tests.features.conftest import World

    model = services.models.add_model(facts=parts.facts, slug="tiny")
    corpus = services.corpora.add_corpus(name="Some files", documents=parts.documents)
    row = services.dictionaries.add_dictionary(path=parts.dictionaries["1-res-topk"], model="tiny")
    world = World(parts=parts, model=model, corpus=corpus, dictionaries={"1-res-topk": row})
    world.attach(sources=("1-res-topk",))
    built_at, n_examples = row.built_at, Example.objects.filter(dictionary_id=row.pk).count()
    attach = partitions.attach

    def dies_at_examples(partition):
        if partition.model is Example:
            raise RuntimeError("killed between the two tables")
        attach(partition)

    monkeypatch.setattr(partitions, "attach", dies_at_examples)
    with pytest.raises(RuntimeError):
        world.attach(sources=("1-res-topk",))
    monkeypatch.undo()
    row.refresh_from_db()
    assert row.built_at == built_at
    assert Example.objects.filter(dictionary_id=row.pk).count() == n_examples
    assert Feature.objects.of(row.pk).count() == row.n_features
    world.attach(sources=("1-res-topk",))  # the orphans of the failed swap are in nobody's way
    assert row.built_at > built_at
    services.dictionaries.remove_dictionary(dictionary=row.pk)


def test_context_columns_name_every_column():
    fields = {field.column for field in Context._meta.local_concrete_fields} - {"tokenization_id"}
    assert fields == set(CONTEXT_COLUMNS)
    for model, columns in ((Feature, STORED_FEATURE_COLUMNS), (Example, EXAMPLE_COLUMNS)):
        assert {field.column for field in model._meta.local_concrete_fields} - {"dictionary_id"} == set(columns)
