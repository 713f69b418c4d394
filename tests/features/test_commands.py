"""The management commands, as a shell runs them and as code calls them."""

import json
from io import StringIO

import pytest
from django.contrib.auth import get_user_model
from django.core.management import ManagementUtility, call_command
from django.db.models import Sum

from features import demo
from features.models import Corpus, Dictionary, Document, LanguageModel, Run
from inference.errors import Conflict, FacetError, InvalidInput, NotFound
from tests.tiny import tiny_dictionary, tiny_model


@pytest.fixture
def folders(tmp_path):
    tiny_model(tmp_path).rename(tmp_path / "My Model")
    tiny_dictionary(tmp_path, "topk", source="1-res-mine")
    tiny_dictionary(tmp_path, "topk", d_in=48, source="1-res-wide")
    return tmp_path


def run(*arguments: object) -> str:
    out = StringIO()
    call_command(*map(str, arguments), stdout=out)
    return out.getvalue()


def test_from_folders_to_dashboards(db, folders, settings, tmp_path, parts):
    settings.FACET_BUILDS = tmp_path / "builds"
    assert "my-model: gpt2, 3 layers, width 32" in run("add_model", folders / "My Model")
    assert "my-model/1-res-mine: topk" in run("add_dictionary", folders / "1-res-mine", "--model", "my-model")
    texts = parts.documents[0].path.parent
    said = run("add_corpus", "files", texts, "--glob", "**/*.py")
    assert "files: 2 documents" in said and "scripts.py: binary" in said
    assert [row.name for row in Document.objects.all()] == ["again/argparse.py", "argparse.py"]
    said = run("build", "my-model/1-res-mine", "--tokens", 4000, "--context-size", 32, "--inline")
    assert said.startswith("Read ")
    assert Dictionary.objects.get().stats["n_tokens"] > 3000


@pytest.mark.parametrize(
    ("arguments", "cause", "remedy"),
    [
        (("add_model", "{folders}/nothing"), "nothing", ""),
        (("add_model", "{folders}/My Model", "--name", "search"), "'search' is the address of a page", "another name"),
        (("add_dictionary", "{folders}/1-res-wide", "--model", "my-model"), "48 wide", "trained on"),
        (("add_dictionary", "{folders}/1-res-mine", "--model", "mymodel"), "no model 'mymodel'", "/my-model"),
        (("add_dictionary", "{folders}", "--model", "my-model"), "", ""),
        (("add_dictionary", "neurons:1", "--dry-run"), "nothing says of which", "Name the model"),
        (("add_corpus", "files", "{folders}/none"), "There is no folder", "Give the folder"),
        (("add_corpus", "files", "{folders}", "--glob", "*.none"), "No file in", "pattern"),
        (("build", "my-model/9-none"), "no source '9-none'", ""),
        (("build", "other"), "no model 'other'", "/my-model"),
        (("build", "my-model", "--inline"), "has no dictionaries yet", "add_dictionary"),
    ],
)
def test_what_goes_wrong_is_a_cause_and_a_remedy(registered_model, folders, capsys, arguments, cause, remedy):
    argv = ["manage.py", *(argument.format(folders=folders) for argument in arguments)]
    with pytest.raises(SystemExit) as exit_:
        ManagementUtility(argv).execute()
    said = capsys.readouterr().err
    assert exit_.value.code == 1
    assert cause in said and remedy in said and "Remedy: " in said
    assert "Traceback" not in said


@pytest.fixture
def registered_model(db, folders):
    run("add_model", folders / "My Model")


def test_a_build_without_valkey_says_so_and_is_not_lost(registered, settings, monkeypatch):
    from features import queue

    settings.CELERY_BROKER_URL = "redis://127.0.0.1:1/0"
    settings.CELERY_TASK_PUBLISH_RETRY_POLICY = {"max_retries": 0}
    queue._app.cache_clear()
    try:
        with pytest.raises(FacetError) as error:
            run("build", "tiny")
    finally:
        queue._app.cache_clear()
    assert "Valkey does not answer" in error.value.cause and "resume_runs" in error.value.remedy
    assert Run.objects.get().state == "queued"


def test_runs_that_wait_and_runs_that_lost_their_worker_are_sent(registered, valkey):
    import redis

    from features import queue, services

    client = redis.Redis.from_url(valkey)
    client.delete("batch")
    queue._app.cache_clear()
    lost = services.runs.create_build(dictionaries=[registered.dictionaries["1-res-topk"].pk])
    services.runs.start(run=lost)
    services.runs.create_build(dictionaries=[registered.dictionaries["2-res-jump"].pk])
    assert "2 runs sent to the workers; 1 had lost theirs." in run("resume_runs")
    assert client.llen("batch") == 2
    client.delete("batch")


def test_the_demonstration_is_set_up_once(db, tmp_path, valkey, monkeypatch):
    import redis

    from features import queue

    client = redis.Redis.from_url(valkey)
    client.delete("batch")
    queue._app.cache_clear()
    tiny_model(tmp_path).rename(tmp_path / "model")
    for number in (1, 2):
        tiny_dictionary(
            tmp_path / "dictionaries", "topk", f"blocks.{number}.hook_resid_post", source=f"{number}-res-topk"
        )
    monkeypatch.setattr(demo, "CORPUS_BYTES", 300_000)
    first = demo.set_up(tmp_path)
    assert first.sources == ("1-res-topk", "2-res-topk") and first.run is not None
    assert get_user_model().objects.get(username="demo").check_password(first.password)
    splits = dict(Document.objects.values_list("split").annotate(n=Sum("n_bytes")))
    assert 0.15 < splits["test"] / sum(splits.values()) < 0.45
    again = demo.set_up(tmp_path)
    assert (again.run, again.password) == (first.run, "")
    assert (LanguageModel.objects.count(), Corpus.objects.count(), Run.objects.count()) == (1, 1, 1)
    Run.objects.update(state=Run.State.CANCELLED)
    assert demo.set_up(tmp_path).run is None, "what a person cancelled stays cancelled"
    Run.objects.update(state=Run.State.FAILED)
    assert demo.set_up(tmp_path).run == first.run
    Run.objects.update(state=Run.State.DONE)
    Dictionary.objects.update(built_at="2026-01-01T00:00Z")
    assert demo.set_up(tmp_path).run is None
    with pytest.raises(NotFound) as error:
        demo.set_up(tmp_path / "nowhere")
    assert "demo.train" in error.value.remedy


def test_an_account_is_made_once_and_its_password_works(db):
    password = run("add_account", "ada").split("Password: ")[1].split()[0]
    ada = get_user_model().objects.get(username="ada")
    assert ada.check_password(password) and not ada.is_staff
    with pytest.raises(Conflict):
        run("add_account", "ada")
    for name in ("", "two words", "n" * 151, "a\0b"):
        with pytest.raises(InvalidInput):
            run("add_account", name)
    run("add_account", "grace", "--staff")
    assert get_user_model().objects.get(username="grace").is_staff


def test_the_demonstration_prints_facts(db, tmp_path, valkey, settings):
    tiny_model(tmp_path / "demo").rename(tmp_path / "demo" / "model")
    tiny_dictionary(tmp_path / "demo" / "dictionaries", "topk", source="1-res-topk")
    settings.BASE_DIR = tmp_path
    facts = json.loads(run("demo_setup", "--json"))
    assert facts["model"] == "facet-demo" and facts["sources"] == ["1-res-topk"] and facts["password"]
    assert "Password" not in run("demo_setup")
