"""Dry runs and additions: what lies at a path is said without writing, and added whole or not at all."""

import json
import os
import shutil
import tempfile
from pathlib import Path
from threading import Thread

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.db import connection
from huggingface_hub import constants

from features import jobs, looks, selectors, services
from features.models import Corpus, Dictionary, LanguageModel, Run
from features.services.checks import may_add
from inference.dictionaries import find_dictionaries, hub
from inference.errors import FacetError, InvalidInput, NotAllowed, NotFound, PathRefused, SignInRequired
from tests.inference.dictionaries.hub_server import COMMIT, serving
from tests.tiny import tiny_dictionary, tiny_model


@pytest.fixture
def staff(db):
    return get_user_model().objects.create_user("ada", is_staff=True)


@pytest.fixture
def anybody(db):
    return get_user_model().objects.create_user("bob")


def nested(folder: Path, **metadata: object) -> Path:
    """Write a dictionary with nested groups whose config states more than the others'."""
    path = tiny_dictionary(folder, "topk", source="1-res-nested", seed=5)
    config = json.loads((path / "cfg.json").read_text())
    config["metadata"] |= {"matryoshka_widths": [16, 48, 128], **metadata}
    (path / "cfg.json").write_text(json.dumps(config))
    return path


def added(what: str, /, **fields: object) -> Run:
    """Create an addition and carry it out."""
    run = getattr(services.additions, f"create_{what}")(**fields)
    jobs.work(run)
    return Run.objects.get(id=run)


def test_a_look_says_what_it_is_and_writes_nothing(registered, tmp_path):
    before = Dictionary.objects.count()
    look = looks.look_at_dictionaries(str(nested(tmp_path)))
    [found] = look.dictionaries
    assert (look.model, found.source, found.can_be_added) == ("tiny", "1-res-nested", True)
    assert (found.architecture, found.k, found.n_features, found.d_in) == ("topk", 8, 128, 32)
    assert found.hook_point == found.hook_point_out == "blocks.1.hook_resid_post"
    assert found.origin.group_sizes == (16, 32, 80) and found.origin.evidence
    assert [fit.model for fit in found.fits if fit.fits] == ["tiny"]
    assert Dictionary.objects.count() == before


def test_several_are_listed_told_apart_and_chosen_by_a_pattern(registered, tmp_path):
    for name in ("a/one", "a/two", "b/three"):
        tiny_dictionary(tmp_path / name, "topk", source="sae", seed=len(name))
    broken = tmp_path / "b" / "broken"
    tiny_dictionary(broken, "topk", source="sae")
    weights = broken / "sae" / "sae_weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    look = looks.look_at_dictionaries(str(tmp_path))
    assert (look.n_found, look.n_matching, len(look.addable)) == (4, 4, 3)
    assert len({found.source for found in look.addable}) == 3
    [problem] = [found.problem for found in look.dictionaries if found.problem]
    assert "2,000 bytes" in problem.cause and problem.remedy
    narrowed = looks.look_at_dictionaries(str(tmp_path), match="a/*")
    assert (narrowed.n_found, narrowed.n_matching) == (4, 2)
    with pytest.raises(NotFound, match="None of 4"):
        looks.look_at_dictionaries(str(tmp_path), match="c/*")


def test_what_does_not_fit_says_why_for_every_model(registered, tmp_path):
    [found] = looks.look_at_dictionaries(str(tiny_dictionary(tmp_path, "topk", d_in=48))).dictionaries
    assert not found.can_be_added and found.source == ""
    assert [(fit.model, fit.fits) for fit in found.fits] == [("tiny", False)] and "48 wide" in found.fits[0].why


def test_the_models_own_neurons_are_looked_at(registered):
    [found] = looks.look_at_dictionaries("neurons:0", model="tiny").dictionaries
    assert (found.source, found.architecture, found.can_be_added) == ("0-neurons", "neurons", True)
    assert found.hook_point == "blocks.0.mlp.hook_post"


def test_what_is_registered_says_where(registered):
    path = registered.parts.dictionaries["1-res-topk"]
    [found] = looks.look_at_dictionaries(str(path)).dictionaries
    assert found.known == "/tiny/1-res-topk" and not found.can_be_added
    other = LanguageModel.objects.get()
    other.pk, other.slug, other.name, other.path = None, "other", "Other", "elsewhere"
    other.save()
    [found] = looks.look_at_dictionaries(str(path), model="other").dictionaries
    assert found.known == "" and found.can_be_added
    config = json.loads((path / "cfg.json").read_text())
    (path / "cfg.json").write_text(json.dumps(config | {"metadata": config["metadata"] | {"model_name": "third"}}))
    undecided = looks.look_at_dictionaries(str(path))
    (path / "cfg.json").write_text(json.dumps(config))
    assert undecided.undecided and undecided.addable == ()


def test_disagreements_with_the_model_are_said(registered, tmp_path):
    path = nested(tmp_path, model_name="google/gemma-2-2b-it", context_size=4096)
    row = services.dictionaries.add_dictionary(path=path, model="tiny")
    origin = selectors.source_card("tiny", row.source).origin
    assert [notice.what for notice in origin.notices] == ["model", "context size", "chat template"]
    assert all(notice.meaning for notice in origin.notices)
    agreeing = selectors.source_card("tiny", "1-res-topk").origin
    assert agreeing.notices == () and agreeing.prepend_bos is True


def test_the_model_of_a_look_is_read_from_its_config_alone(db, tmp_path):
    folder = tiny_model(tmp_path, "llama")
    look = looks.look_at_model(str(folder))
    assert (look.family, look.n_layers, look.d_model, look.context_size) == ("llama", 3, 32, 64)
    assert look.problems == () and look.weights == ("model.safetensors",) and not look.has_chat
    (folder / "tokenizer.json").unlink()
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "mamba"}
    (folder / "config.json").write_text(json.dumps(config))
    assert [problem.code for problem in looks.look_at_model(str(folder)).problems] == [
        "unsupported-model",
        "model-without-tokenizer",
    ]
    with pytest.raises(NotFound, match="no such folder"):
        looks.look_at_model(str(tmp_path / "nothing"))


def test_a_model_its_dictionaries_and_text_are_added_by_runs(staff, tmp_path):
    folder = tiny_model(tmp_path)
    run = added("model", path=str(folder), name="fresh", user=staff)
    assert (run.state, run.result["links"]) == ("done", ["/fresh"])
    assert LanguageModel.objects.get().config["bos"] == "<|endoftext|>"
    paths = [
        tiny_dictionary(tmp_path, "topk", source=name, seed=seed) for seed, name in enumerate(("1-res-a", "1-res-b"))
    ]
    run = added(
        "dictionaries", path=str(tmp_path), model="fresh", user=staff, sources={str(path): "" for path in paths}
    )
    assert (run.state, run.result["links"]) == ("done", ["/fresh/1-res-a", "/fresh/1-res-b"])
    text = tmp_path / "text"
    text.mkdir()
    (text / "one.txt").write_text("some text")
    (text / "two.md").write_text("other text")
    (text / "out.txt").symlink_to(folder / "config.json")
    run = added("corpus", path=str(text), name="Words", glob="*.txt", user=staff)
    assert (run.state, run.result["links"]) == ("done", ["/corpora/words"])
    page = selectors.corpus_page("words")
    assert [row.name for row in page.documents.rows] == ["one.txt"]


def test_a_run_adds_what_can_be_added_and_reports_the_rest(registered, staff, tmp_path):
    good = tiny_dictionary(tmp_path, "topk", source="1-res-good", seed=1)
    wide = tiny_dictionary(tmp_path, "topk", d_in=48, source="1-res-wide")
    sources = {str(wide): "", str(good): ""}
    run = added("dictionaries", path=str(tmp_path), model="tiny", user=staff, sources=sources)
    assert (run.state, run.result["links"]) == ("failed", ["/tiny/1-res-good"])
    assert run.error.startswith("1 of 2 were not added") and "48 wide" in run.error and run.remedy
    assert not Dictionary.objects.filter(source="1-res-wide").exists()
    services.runs.resume(run=run.pk)
    jobs.work(run.pk)
    assert Dictionary.objects.filter(source="1-res-good").count() == 1


def test_who_may_make_this_machine_read_what(staff, anybody, settings, tmp_path):
    settings.FACET_ADD_FOLDERS = [tmp_path / "open"]
    may_add(staff, "/anything")
    may_add(anybody, str(tmp_path / "open" / "sae#3"))
    (tmp_path / "open" / "x#").mkdir(parents=True)
    above = str(tmp_path / "open" / "x#" / ".." / ".." / "else")
    for path in (str(tmp_path), str(tmp_path / "open" / ".." / "else"), above, "owner/name", "/a\0b", "~nobody-here"):
        with pytest.raises(NotAllowed):
            may_add(anybody, path)
    with pytest.raises(SignInRequired):
        may_add(AnonymousUser(), str(tmp_path / "open"))
    with pytest.raises(NotAllowed):
        services.additions.create_corpus(path="/etc", name="secrets", user=anybody)
    assert not Run.objects.exists()


@pytest.mark.parametrize(
    ("what", "fields", "cause"),
    [
        ("model", {"path": "", "name": "x"}, "path is empty"),
        ("model", {"path": "/m", "name": "search"}, "address of a page"),
        ("dictionaries", {"path": "/m", "model": "none", "sources": {"/m": ""}}, "no model"),
        ("dictionaries", {"path": "/m", "model": "tiny", "sources": {}}, "0 dictionaries"),
        ("dictionaries", {"path": "/m", "model": "tiny", "sources": {"/m": "a b"}}, "not a source id"),
        ("corpus", {"path": "/m", "name": "x" * 300}, "300 characters"),
    ],
)
def test_what_cannot_be_added_makes_no_run(registered, staff, what, fields, cause):
    with pytest.raises(FacetError, match=cause):
        getattr(services.additions, f"create_{what}")(user=staff, **fields)
    assert not Run.objects.exists()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


def test_a_hub_id_is_planned_fetched_in_a_run_and_then_looked_at(registered, staff, tmp_path, cache, monkeypatch):
    repository = tmp_path / "repository"
    tiny_dictionary(repository, "topk", source="layer_1", seed=4)
    name = f"facet-tests/saes@{COMMIT}:layer_1"
    with serving("facet-tests/saes", repository) as (address, _):
        monkeypatch.setattr(hub, "plan", _with_endpoint(hub.plan, address))
        monkeypatch.setattr(looks.dictionaries, "plan", hub.plan)
        look = looks.look_at_dictionaries(name)
        assert look.dictionaries == () and look.download.n_files == 2
        assert look.download.missing_bytes == look.download.n_bytes > 1000
        run = added("download", path=name, match="", what="dictionary", model="tiny", user=staff)
        assert run.state == "done", run.error
        assert run.total == look.download.n_bytes and run.done == run.total
    [found] = looks.look_at_dictionaries(name).dictionaries
    assert found.can_be_added and found.model == "tiny"
    assert run.result["links"][0].startswith("/add/dictionary?path=")


def test_a_download_stops_when_it_is_told_to(tmp_path, cache):
    repository = tmp_path / "repository"
    tiny_dictionary(repository, "topk", source="layer_1")
    with serving("facet-tests/saes", repository) as (address, _):
        planned = hub.plan(f"facet-tests/saes@{COMMIT}:layer_1", endpoint=address)
        assert hub.fetch(planned, should_stop=lambda: True) is None
        assert hub.cached(planned.id) is None
        assert hub.fetch(planned) == hub.cached(planned.id)


def _with_endpoint(plan, address):
    return lambda *arguments, **named: plan(*arguments, **named, endpoint=address)


@pytest.mark.parametrize("glob", ["/etc/*", "../*"])
def test_patterns_do_not_lead_out_of_the_folder(db, tmp_path, glob):
    (tmp_path / "text").mkdir()
    (tmp_path / "outside.txt").write_text("outside")
    with pytest.raises((InvalidInput, NotFound)):
        looks.look_at_corpus(str(tmp_path / "text"), glob=glob)


def test_lines_of_json_are_documents_and_what_is_left_out_is_listed(staff, tmp_path):
    rows = [{"body": f"document {number}"} for number in range(5)] + [{"other": 1}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\nbroken\n")
    look = looks.look_at_corpus(str(tmp_path), field="body")
    assert (look.n_files, look.n_tables, look.files[0].kind, look.files[0].split) == (1, 1, "lines of JSON", "by row")
    run = added("corpus", path=str(tmp_path), name="Rows", field="body", user=staff)
    assert run.state == "done", run.error
    page = selectors.corpus_page("rows")
    assert page.corpus.n_documents == 5 and dict(page.left_out) == {"without 'body'": 1, "not JSON": 1}
    assert page.left_out_first[0][0].startswith("rows.jsonl:")
    assert selectors.document("rows", 2).lines == ("document 2",)


def test_a_dataset_of_a_hub_is_left_to_its_run(staff):
    look = looks.look_at_corpus("hub:owner/texts")
    assert look.is_dataset and (look.name, look.slug, look.files) == ("texts", "texts", ())
    run = Run.objects.get(id=services.additions.create_corpus(path="hub:owner/texts", limit=10, user=staff))
    assert (run.params["limit"], run.params["name"]) == (10, "texts")
    with pytest.raises(InvalidInput):
        services.additions.create_corpus(path="hub:owner/texts", limit=0, user=staff)


def test_text_that_is_none_is_pointed_out(db, tmp_path):
    (tmp_path / "good.txt").write_text("größe " * 2000)
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "binary.bin").write_bytes(b"\0\1" * 100)
    (tmp_path / "latin.txt").write_bytes("größe".encode("latin-1") * 100)
    look = looks.look_at_corpus(str(tmp_path))
    assert {file.name: file.problem for file in look.files} == {
        "good.txt": "",
        "empty.txt": "empty",
        "binary.bin": "binary",
        "latin.txt": "not UTF-8",
    }
    assert (look.n_files, look.n_odd) == (4, 3) and not Corpus.objects.exists()


@pytest.mark.parametrize("look", [looks.look_at_dictionaries, looks.look_at_model, looks.look_at_corpus])
def test_whatever_is_typed_as_a_path_gets_a_cause(db, look):
    for path in (" ", "~nobody-here/x", "/a\0b", "a" * 1001, "/" + "a" * 300, "\ud800x", "/dev/null"):
        with pytest.raises(FacetError) as caught:
            look(path)
        assert caught.value.status in (404, 422) and caught.value.remedy, path


@pytest.fixture
def shared_folder():
    """A folder that every account may enter, and this process as one that may not enter everywhere."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    tiny_dictionary(folder, "topk", source="1-res-open")
    (folder / "closed" / "inner").mkdir(parents=True)
    (folder / "closed").chmod(0o000)
    user = os.geteuid()
    os.seteuid(user or 65534)
    yield folder
    os.seteuid(user)
    (folder / "closed").chmod(0o700)
    shutil.rmtree(folder)


def test_what_another_account_keeps_to_itself_is_said_and_passed_over(db, shared_folder):
    for look in (looks.look_at_corpus, looks.look_at_model, looks.look_at_dictionaries):
        with pytest.raises(PathRefused, match=r"closed.*Permission denied"):
            look(str(shared_folder / "closed" / "inner"))
    assert [path.name for path in find_dictionaries(shared_folder)] == ["1-res-open"]


def test_a_config_that_nobody_would_write_is_looked_at(db, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": {"a": 1}, "text_config": [1], "n_layer": "four"}')
    look = looks.look_at_model(str(tmp_path))
    assert (look.n_layers, look.family, look.problems[0].code) == (None, "", "unsupported-model")


def test_pipes_and_names_that_are_not_text_are_no_documents(staff, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "gone.txt").symlink_to(tmp_path / "none")
    (tmp_path / "a.txt").write_text("a text")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt")).write_text("another text")
    found = looks.look_at_corpus(str(tmp_path)).files
    assert [(file.name, file.problem) for file in found] == [("caf�.txt", "of a name that is not UTF-8"), ("a.txt", "")]
    run = added("corpus", path=str(tmp_path), name="Odd", user=staff)
    assert run.state == "done", run.error
    corpus = Corpus.objects.get()
    assert list(corpus.documents.values_list("name", flat=True)) == ["a.txt"]
    assert corpus.skipped["counts"] == {"of a name that is not UTF-8": 1}


def test_what_cannot_be_stored_is_refused_before_it_is_queued(registered, staff, tmp_path):
    (tmp_path / "a.txt").write_text("a text")
    path = str(tmp_path)
    for create, fields in (
        ("corpus", {"name": "éé"}),
        ("corpus", {"name": "a", "field": "f" * 81}),
        ("dictionaries", {"model": "tiny", "sources": {path: ""}, "release": "No Slug!"}),
    ):
        with pytest.raises(InvalidInput):
            getattr(services.additions, f"create_{create}")(path=path, user=staff, **fields)
    run = services.additions.create_model(path=path, user=staff, name="fresh", description="nul \0, alone \ud800")
    assert Run.objects.get(id=run).params["description"] == "nul ␀, alone �"


@pytest.mark.django_db(transaction=True)
def test_text_that_is_being_read_can_be_cancelled(tmp_path, monkeypatch):
    """Reading locks nothing: who cancels does not wait for its end."""
    monkeypatch.setattr(jobs, "REPORT_SECONDS", 0)
    user = get_user_model().objects.create_user("ada", is_staff=True)
    for number in range(4):
        (tmp_path / f"{number}.txt").write_text(f"text {number}")
    run = services.additions.create_corpus(path=str(tmp_path), name="Long", user=user)
    seen = []

    def cancel() -> None:
        try:
            seen.append(Run.objects.get(id=run).done)
            services.runs.cancel(run=run)
        finally:
            connection.close()

    def watch(progress, rate) -> None:
        if progress.done == 2:
            thread = Thread(target=cancel, daemon=True)
            thread.start()
            thread.join(20)
            assert not thread.is_alive(), "the run was locked while its text was read"

    jobs.work(run, watch=watch)
    assert seen == [1]
    assert Run.objects.get(id=run).state == "cancelled" and not Corpus.objects.exists()
