"""Datasets of a hub, by id, from a hub that is served on this machine: only what is wanted crosses the network."""

from __future__ import annotations

import json
import random
from contextlib import contextmanager

import pytest
from django.core.management import call_command
from huggingface_hub import constants

from features import services
from features.additions import run_addition
from features.looks.corpora import look_at_corpus
from features.models import Corpus, Run
from features.texts import Skips, documents_of
from features.texts.datasets import DatasetUnavailable, of_dataset
from inference.dashboards.corpus import Cancelled
from inference.errors import Conflict, InvalidInput, NotFound
from tests.features.texts.dataset_server import COMMIT, serving_dataset

NAME = "facet-tests/texts"
N_ROWS = 3000


@pytest.fixture(scope="module")
def rows():
    draw = random.Random(5)
    # Text that no compression makes small, so that files are as large as they look.
    return [
        {"text": f"row {n} größe {draw.randbytes(900).hex()}", "id": n, "url": f"https://x/{n}"} for n in range(N_ROWS)
    ]


@pytest.fixture(scope="module")
def jsonl(tmp_path_factory, rows):
    """About 5.6 MB in two files, with a line that is no JSON, and a file that is not for training."""
    folder = tmp_path_factory.mktemp("jsonl")
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (folder / "data").mkdir()
    (folder / "data" / "train-0.jsonl").write_text("\n".join([lines[0], "{cut", *lines[1:2000]]) + "\n")
    (folder / "data" / "train-1.jsonl").write_text("\n".join(lines[2000:]) + "\n")
    (folder / "data" / "valid.jsonl").write_text(json.dumps({"text": "not this"}) + "\n")
    (folder / "README.md").write_text("# Texts\n")
    return folder


@pytest.fixture(scope="module")
def parquet(tmp_path_factory, rows):
    arrow = pytest.importorskip("pyarrow", reason="pyarrow is for those who develop")
    from pyarrow import parquet as files

    folder = tmp_path_factory.mktemp("parquet")
    files.write_table(arrow.Table.from_pylist(rows), folder / "train.parquet", row_group_size=200, compression="none")
    return folder


@pytest.fixture
def hub(monkeypatch):
    """Return a context in which a folder is the dataset of the hub that clients ask."""

    @contextmanager
    def serve(folder):
        with serving_dataset(NAME, folder) as served:
            monkeypatch.setattr(constants, "ENDPOINT", served.url)
            template = f"{served.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
            monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
            monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
            yield served

    return serve


@pytest.fixture
def copy(tmp_path):
    """Return a function from options to the rows of a copy, and its skips."""

    def make(dataset=NAME, limit=N_ROWS, **options):
        skips = Skips()
        path = of_dataset(dataset, field="text", limit=limit, copies_at=tmp_path / "copies", skips=skips, **options)
        return [json.loads(line) for line in path.read_text().splitlines()], skips

    return make


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_the_first_documents_come_without_the_rest(hub, copy, rows, request, kind):
    folder = request.getfixturevalue(kind)
    total = sum(path.stat().st_size for path in folder.rglob("train*"))
    with hub(folder) as served:
        found, skips = copy(limit=100)
        assert found == rows[:100]
        assert served.n_bytes < total / 2
        assert "valid.jsonl" not in str(served.begins)
        assert skips.counts == ({"not JSON": 1} if kind == "jsonl" else {})
        # What is here is not asked for again, and what was left out is still known.
        before = served.n_bytes
        assert copy(limit=100) == (found, skips)
        assert served.n_bytes == before


@pytest.mark.django_db
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_look_estimates_documents_text_and_the_copy(hub, rows, request, kind, monkeypatch, capsys):
    folder = request.getfixturevalue(kind)
    total = sum(path.stat().st_size for path in folder.rglob("train*"))
    n_text_bytes = sum(len(row["text"].encode()) for row in rows)
    with hub(folder) as served:
        look = look_at_corpus(f"hub:{NAME}")
        assert look.n_bytes == total and look.n_files == (2 if kind == "jsonl" else 1)
        assert look.n_documents == pytest.approx(N_ROWS, rel=0.1)
        assert look.n_text_bytes == pytest.approx(n_text_bytes, rel=0.1)
        assert look.n_tokens == pytest.approx(n_text_bytes / 4, rel=0.1)
        assert look.n_copied_bytes == pytest.approx(total, rel=0.1)
        assert served.n_bytes < total / 2
        some = look_at_corpus(f"hub:{NAME}", limit=300)
        assert some.n_documents == 300
        assert some.n_copied_bytes == pytest.approx(total / 10, rel=0.1)
        call_command("add_corpus", "texts", f"hub:{NAME}", limit=300, dry_run=True)
        assert "About 300 documents, 0." in (said := capsys.readouterr().out), said
        assert "Their copy takes 0.6 MB." in said
        assert not Corpus.objects.exists()
        with pytest.raises(NotFound):
            look_at_corpus("hub:facet-tests/others")
        served.most = served.n_bytes
        refused = look_at_corpus(f"hub:{NAME}")
        assert refused.n_bytes == total and refused.n_documents is None
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    away = look_at_corpus(f"hub:{NAME}")
    assert away.is_dataset and away.n_documents is None and away.n_copied_bytes is None


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_copy_that_is_cancelled_goes_on_where_it_stopped(hub, copy, rows, request, tmp_path, kind):
    def stop_at(n_wanted):
        def told(n_rows):
            if n_rows >= n_wanted:
                raise Cancelled

        return told

    folder = request.getfixturevalue(kind)
    with hub(folder) as served:
        with pytest.raises(Cancelled):
            copy(told=stop_at(2300))
        assert not list((tmp_path / "copies").glob("*.jsonl"))
        begins, seen = len(served.begins), []
        found, skips = copy(told=seen.append)
        assert found == rows
        assert seen[0] >= 2300
        assert skips.counts == ({"not JSON": 1} if kind == "jsonl" else {})
        again = served.begins[begins:]
    if kind == "jsonl":
        assert {file for file, _ in again} == {"data/train-1.jsonl"}
    else:
        assert min(first for _, first in again) > (folder / "train.parquet").stat().st_size // 2


def test_a_hub_that_goes_away_leaves_what_came(hub, copy, rows, jsonl):
    with hub(jsonl) as served:
        served.most = 2_500_000
        with pytest.raises(DatasetUnavailable, match="stopped giving"):
            copy()
        served.most = float("inf")
        seen = []
        found, _ = copy(told=seen.append)
        assert found == rows
        assert seen[0] > 0


@pytest.mark.parametrize("revision", ["", "@main", f"@{COMMIT}"])
def test_a_revision_is_pinned_to_its_commit(hub, copy, rows, jsonl, tmp_path, revision):
    with hub(jsonl):
        found, _ = copy(f"{NAME}{revision}", limit=3)
    assert found == rows[:3]
    assert len(list((tmp_path / "copies").glob("*.jsonl"))) == 1


def test_what_the_hub_does_not_have_is_said(hub, copy, jsonl, tmp_path):
    with hub(jsonl):
        with pytest.raises(NotFound, match="@v9"):
            copy(f"{NAME}@v9")
        with pytest.raises(NotFound, match="no dataset"):
            copy("facet-tests/others")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.csv").write_text("text\n")
    with hub(tmp_path / "empty"), pytest.raises(InvalidInput, match="no files of JSONL"):
        copy()


def test_of_two_that_copy_at_once_the_second_is_refused(hub, copy, jsonl):
    def told(n_rows):
        with pytest.raises(Conflict, match="Another process"):
            copy(limit=600)

    with hub(jsonl):
        copy(limit=600, told=told)


def test_documents_carry_the_rows_metadata(hub, jsonl, tmp_path):
    with hub(jsonl):
        documents = list(documents_of(f"hub:{NAME}@main", skips=Skips(), limit=5, copies_at=tmp_path / "copies"))
    assert [document.name for document in documents] == [f"{NAME}:{n}" for n in range(1, 6)]
    assert documents[3].metadata == {"id": 3, "url": "https://x/3"}
    assert {document.split for document in documents} <= {"train", "test", ""}


@pytest.mark.django_db(transaction=True)
def test_a_run_adds_a_dataset_is_cancelled_and_resumed(hub, jsonl, tmp_path, settings, django_user_model):
    settings.FACET_CORPORA = str(tmp_path / "copies")
    staff = django_user_model.objects.create_user("grace", password="x", is_staff=True)
    with hub(jsonl) as served:
        run = services.additions.create_corpus(path=f"hub:{NAME}", limit=N_ROWS, user=staff)

        def cancel(progress, rate):
            if progress.phase == "copy" and progress.done >= 1000:
                services.runs.cancel(run=run) if not Run.objects.get(id=run).cancel_requested else None

        run_addition(run, watch=cancel)
        assert Run.objects.get(id=run).state in (Run.State.CANCELLED, Run.State.DONE)
        if Run.objects.get(id=run).state == Run.State.CANCELLED:
            assert not Corpus.objects.exists()
            services.runs.resume(run=run)
            run_addition(run)
        assert Run.objects.get(id=run).state == Run.State.DONE
        assert served.n_bytes < 2.5 * sum(path.stat().st_size for path in jsonl.rglob("train*"))
    corpus = Corpus.objects.get()
    assert corpus.documents.count() == N_ROWS
    assert corpus.skipped["counts"] == {"not JSON": 1}
    assert corpus.documents.get(ordinal=7).metadata == {"id": 7, "url": "https://x/7"}
