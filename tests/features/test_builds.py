"""Builds, from a stored run to rows: whole, cancelled, killed, and with something wrong."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connection

from features import partitions, selectors, services
from features.builds import run_build, workdir
from features.models import Dictionary, Explanation, Run
from features.queue import enqueue_run
from inference.errors import Conflict, InvalidInput
from tests.features.conftest import CONTEXT_SIZE, N_TOKENS

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def builds_folder(settings, tmp_path):
    settings.FACET_BUILDS = tmp_path / "builds"
    return settings.FACET_BUILDS


def queue(world, **options) -> int:
    ids = [dictionary.pk for dictionary in world.dictionaries.values()]
    return services.runs.create_build(
        dictionaries=ids, n_tokens=N_TOKENS, context_size=CONTEXT_SIZE, shard_tokens=1500, **options
    )


def rows_of(table: str, column: str, key: int) -> list[tuple]:
    """Return every column of a partition but its key, as text, in order."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT to_jsonb(t) - %s FROM {table} t WHERE {column} = %s", [column, key])
        return sorted(json.dumps(row, sort_keys=True) for (row,) in cursor.fetchall())


def all_rows(world) -> dict[str, list[tuple]]:
    tokenization = Dictionary.objects.values_list("tokenization_id", flat=True).first()
    rows = {"contexts": rows_of("features_context", "tokenization_id", tokenization)}
    for source, dictionary in world.dictionaries.items():
        for table in ("features_feature", "features_example"):
            rows[f"{source} {table}"] = rows_of(table, "dictionary_id", dictionary.pk)
        rows[f"{source} explanations"] = [
            (row.index, row.text, json.dumps(row.evidence, sort_keys=True))
            for row in Explanation.objects.filter(dictionary=dictionary).order_by("index", "method")
        ]
    return rows


def test_a_build_makes_every_feature_a_page(registered):
    run = queue(registered)
    seen = []
    run_build(run, watch=lambda progress, rate: seen.append(progress.phase))
    card = selectors.run(run)
    assert (card.state, card.error) == ("done", "")
    assert list(dict.fromkeys(seen)) == [phase for phase in card.phases if phase in seen]
    assert card.log[0].startswith("Read 11,985 tokens in 255 contexts")
    assert not Path(workdir(Run.objects.get(pk=run))).exists()
    for source, dictionary in registered.dictionaries.items():
        page = selectors.source_page("tiny", source)
        assert page.features.total == dictionary.n_features
        assert all(row.label for row in page.features.rows), "every feature has an explanation after a build"
        stats = Dictionary.objects.get(pk=dictionary.pk).stats
        assert sum(stats["l0_histogram"]["counts"]) == sum(page.errors.counts) == stats["n_tokens"]
        if "topk" in source:
            assert page.l0 is None, "the same number everywhere is no distribution"
        else:
            assert len(page.l0.counts) > 1 and page.l0.edges[0] <= stats["l0_median"] < page.l0.edges[-1]
        assert stats["provenance"] and stats["measurements"]["tokens_per_second"] > 0


def test_a_cancelled_build_resumes_and_gives_the_same_rows(registered):
    whole = queue(registered)
    run_build(whole)
    expected = all_rows(registered)
    run = queue(registered)

    def cancel_in_the_middle(progress, rate):
        if progress.phase == "encode" and progress.done > N_TOKENS / 3 and Run.objects.get(pk=run).state == "running":
            services.runs.cancel(run=run)

    run_build(run, watch=cancel_in_the_middle)
    assert Run.objects.get(pk=run).state == "cancelled"
    assert list(Path(workdir(Run.objects.get(pk=run))).rglob("shards/*/*.columns"))
    services.runs.resume(run=run)
    run_build(run)
    card = selectors.run(run)
    assert card.state == "done"
    resumed = [line for line in card.log if "shards" in line][-1]
    assert "; 0 of" not in resumed
    assert all_rows(registered) == expected


@pytest.mark.django_db(transaction=True)
def test_a_killed_build_resumes_and_gives_the_same_rows(parts, transactional_db, process_env, builds_folder):
    """A real process, killed with SIGKILL between two shards; readers go on seeing the old rows."""
    from tests.features.conftest import World

    model = services.models.add_model(facts=parts.facts, slug="tiny")
    corpus = services.corpora.add_corpus(name="Some files", documents=parts.documents)
    dictionaries = {
        source: services.dictionaries.add_dictionary(path=path, model="tiny")
        for source, path in parts.dictionaries.items()
    }
    world = World(parts=parts, model=model, corpus=corpus, dictionaries=dictionaries)
    whole = queue(world)
    run_build(whole)
    expected = all_rows(world)

    run = queue(world)
    code = f"import django; django.setup(); from features.builds import run_build; run_build({run})"
    env = process_env | {"DJANGO_SETTINGS_MODULE": "explorer.settings", "FACET_BUILDS": str(builds_folder)}
    child = subprocess.Popen([sys.executable, "-c", code], cwd=CHECKOUT, env=env)
    folder = Path(workdir(Run.objects.get(pk=run)))
    deadline = time.monotonic() + 120
    while not list(folder.rglob("shards/*/*.columns")):
        assert child.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert Run.objects.get(pk=run).state == "running"
    assert all_rows(world) == expected

    assert services.runs.requeue(run=run)
    run_build(run)
    assert selectors.run(run).state == "done"
    assert all_rows(world) == expected
    for dictionary in dictionaries.values():
        assert partitions.exists(partitions.features_of(dictionary.pk))
        services.dictionaries.remove_dictionary(dictionary=dictionary.pk)


def test_what_goes_wrong_is_on_the_run(registered, parts, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.copytree(parts.dictionaries["1-res-topk"], moved)
    Dictionary.objects.filter(source="1-res-topk").update(path=str(moved))
    shutil.rmtree(moved)
    run = queue(registered)
    run_build(run)
    card = selectors.run(run)
    assert card.state == "failed" and str(moved) in card.error and card.remedy and card.can_resume


def test_weights_that_changed_since_they_were_added_are_not_built(registered):
    Dictionary.objects.filter(source="2-res-jump").update(sha256="0" * 64)
    run = queue(registered)
    run_build(run)
    card = selectors.run(run)
    assert card.state == "failed" and "not those that were added" in card.error


def test_an_unexpected_error_is_on_the_run_and_raised(registered, monkeypatch):
    def breaks(*_arguments):
        raise ZeroDivisionError("no luck")

    monkeypatch.setattr("features.keyless.explain", breaks)
    run = queue(registered)
    with pytest.raises(ZeroDivisionError):
        run_build(run)
    card = selectors.run(run)
    assert (card.state, card.error) == ("failed", "ZeroDivisionError: no luck")
    monkeypatch.undo()
    services.runs.resume(run=run)
    run_build(run)
    assert selectors.run(run).state == "done"


def test_a_run_that_is_over_is_not_built_again(registered):
    run = queue(registered)
    services.runs.cancel(run=run)
    run_build(run)
    assert Run.objects.get(pk=run).state == "cancelled"
    assert not Dictionary.objects.built().exists()


def test_runs_are_sent_to_the_batch_queue(valkey):
    import redis

    client = redis.Redis.from_url(valkey)
    client.delete("batch")
    enqueue_run(123)
    [message] = client.lrange("batch", 0, -1)
    client.delete("batch")
    assert json.loads(message)["headers"]["task"] == "inference.tasks.run"


def test_a_build_beside_another_is_refused(registered):
    queue(registered)
    with pytest.raises(Conflict):
        queue(registered)


@pytest.mark.parametrize("context_size", [1, 100_000])
def test_contexts_that_the_model_cannot_read_are_refused(registered, context_size):
    with pytest.raises(InvalidInput, match=r"takes 2 to \d+, BOS included"):
        ids = [dictionary.pk for dictionary in registered.dictionaries.values()]
        services.runs.create_build(dictionaries=ids, n_tokens=5000, context_size=context_size)
    assert not Run.objects.exists()


def test_a_dry_run_says_what_a_build_would_take(registered, capsys):
    call_command("build", "tiny", "--tokens", "5000", "--dry-run")
    said = capsys.readouterr().out
    assert "5,000 tokens, 192 features" in said and "Memory of each worker" in said and "MB stored" in said
    assert not Run.objects.exists()


def test_a_build_says_which_documents_gave_nothing(registered, tmp_path):
    files = {"good.txt": "a b c d e f g h " * 200, "empty.txt": "\n", "short.txt": "x", "latin.txt": "é"}
    for name, text in files.items():
        (tmp_path / name).write_bytes(text.encode("latin-1" if name == "latin.txt" else "utf-8") * 3)
    documents = [services.corpora.NewDocument(name=name, path=tmp_path / name) for name in files]
    services.corpora.add_corpus(name="Mixed", documents=documents)
    run = queue(registered, corpus="mixed")
    run_build(run)
    row = Run.objects.get(pk=run)
    assert row.state == "done", row.error
    reasons = {entry["ordinal"]: entry["reason"] for entry in row.result["skipped"]}
    assert reasons == {1: "empty", 2: "short", 3: "not UTF-8"} and row.result["n_skipped"] == 3
    assert any("3 documents gave no context: 1" in line.text for line in row.lines.all())
