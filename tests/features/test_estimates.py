"""Estimates of builds stand on builds that were measured."""

import pytest
from django.db import connection

from features import estimates, services
from features.builds import run_build
from features.estimates import FLOAT_BYTES, PROCESS_BYTES
from features.models import Dictionary, LanguageModel
from inference.errors import InvalidInput


def measured(world, seconds: float = 20.0, **more: object) -> list[Dictionary]:
    rows = list(world.dictionaries.values())
    for row in rows:
        row.refresh_from_db()
        row.stats |= {
            "run": 1,
            "n_tokens": 10_000,
            "measurements": {"seconds": seconds, "workers": 2} | more,
        }
        row.save()
    return rows


def test_without_a_build_time_is_not_known(registered):
    found = estimates.estimate(dictionaries=[row.pk for row in registered.dictionaries.values()], n_tokens=1000)
    assert found.seconds is None and found.memory_bytes > PROCESS_BYTES and found.disk_bytes > 0
    assert "No build was measured" in found.basis


def test_time_grows_with_tokens_and_memory_with_weights(world, django_assert_num_queries):
    rows = measured(world)
    with django_assert_num_queries(3):
        same = estimates.estimate(dictionaries=[row.pk for row in rows], n_tokens=10_000)
    assert same.seconds == pytest.approx(20.0) and same.fits
    assert "tiny" in same.basis and "10,000 tokens in 20 s" in same.basis and "2 workers" in same.basis
    assert estimates.estimate(dictionaries=[row.pk for row in rows], n_tokens=50_000).seconds == pytest.approx(100.0)
    one = estimates.estimate(dictionaries=[rows[0].pk], n_tokens=10_000)
    assert one.seconds < same.seconds and one.memory_bytes < same.memory_bytes and one.disk_bytes < same.disk_bytes


def test_disk_is_what_a_build_of_the_same_stores(world):
    rows = measured(world)
    tables = [
        *(f"features_{kind}_{row.pk}" for row in rows for kind in ("feature", "example", "tokenfeature")),
        *{f"features_context_{row.tokenization_id}" for row in rows},
        *("features_posting", "features_explanation"),
    ]
    with connection.cursor() as cursor:
        cursor.execute("SELECT sum(pg_total_relation_size(name::regclass)) FROM unnest(%s::text[]) AS name", [tables])
        [stored] = cursor.fetchone()
    ids = [row.pk for row in rows]
    assert estimates.estimate(dictionaries=ids, n_tokens=10_000).disk_bytes == pytest.approx(int(stored), rel=1e-6)
    # Features stay as many, contexts are of twice the tokens.
    twice = estimates.estimate(dictionaries=ids, n_tokens=20_000).disk_bytes
    assert int(stored) < twice < 2 * int(stored)


def test_memory_stays_within_the_budget_unless_one_dictionary_is_too_large(registered, settings):
    ids = [row.pk for row in registered.dictionaries.values()]
    roomy = estimates.estimate(dictionaries=ids, n_tokens=1000)
    one = estimates.estimate(dictionaries=ids[:1], n_tokens=1000)
    settings.FACET_BUILD_MEMORY = one.memory_bytes + 1_000_000
    in_turns = estimates.estimate(dictionaries=ids, n_tokens=1000)
    assert roomy.memory_bytes > in_turns.memory_bytes > 0 and in_turns.fits
    settings.FACET_BUILD_MEMORY = one.memory_bytes // 2
    assert not estimates.estimate(dictionaries=ids, n_tokens=1000).fits


def test_disk_of_shards_is_about_what_they_take(registered, settings, tmp_path):
    settings.FACET_BUILDS = str(tmp_path)
    ids = [row.pk for row in registered.dictionaries.values()]
    run = services.runs.create_build(dictionaries=ids, n_tokens=12_000, context_size=48)
    largest = 0

    def watch(progress, rate):
        nonlocal largest
        largest = max(largest, sum(path.stat().st_size for path in tmp_path.rglob("*.columns")))

    run_build(run, watch=watch)
    found = estimates.estimate(dictionaries=ids, n_tokens=12_000)
    assert found.work_bytes / 4 < largest < found.work_bytes * 2
    assert not list(tmp_path.rglob("shards"))


def test_a_build_that_was_resumed_says_nothing_of_time(world):
    rows = measured(world, resumed_shards=2)
    assert estimates.estimate(dictionaries=[rows[0].pk], n_tokens=10_000).seconds is None


def test_more_than_a_build_reads_is_refused(registered):
    for n_tokens in (0, 10**9 + 1, 10**400):
        with pytest.raises(InvalidInput, match="1,000,000,000"):
            estimates.estimate(dictionaries=[row.pk for row in registered.dictionaries.values()], n_tokens=n_tokens)


def test_nothing_chosen_is_refused(db):
    with pytest.raises(InvalidInput):
        estimates.estimate(dictionaries=[], n_tokens=1000)


def test_a_model_that_runs_beside_counts_in_time_and_memory(world):
    rows = measured(world)
    ids = [row.pk for row in rows]
    alone = estimates.estimate(dictionaries=ids, n_tokens=10_000)
    own = rows[0].model
    other = LanguageModel.objects.get(pk=own.pk)
    other.pk, other.slug, other.d_mlp = None, "beside", 3 * own.d_mlp
    other.save()
    Dictionary.objects.filter(pk=ids[0]).update(hook_point=f"beside/{rows[0].hook_point}+{rows[0].hook_point}")
    both = estimates.estimate(dictionaries=ids, n_tokens=10_000)
    assert both.seconds == pytest.approx(alone.seconds)  # what was measured had the same models
    weights = other.n_layers * (4 * other.d_model**2 + 2 * other.d_model * other.d_mlp)
    assert both.memory_bytes - alone.memory_bytes == FLOAT_BYTES * (weights + other.d_vocab * other.d_model)
    apart = estimates.estimate(dictionaries=ids[1:], n_tokens=10_000)
    Dictionary.objects.filter(pk=ids[1]).update(hook_point=f"beside/{rows[1].hook_point}+{rows[1].hook_point}")
    assert estimates.estimate(dictionaries=ids[1:], n_tokens=10_000).seconds > apart.seconds
