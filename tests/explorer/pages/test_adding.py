"""Pages that add and measure, without scripts: looks write nothing, forms say what is wrong, queries are few."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from features.models import Corpus, Dictionary, LanguageModel, Run
from tests.site import PASSWORD, STAFF, Site
from tests.tiny import tiny_dictionary, tiny_model

pytestmark = pytest.mark.django_db


@pytest.fixture
def staff(site: Site) -> Client:
    """Somebody whose account may add what lies on this machine."""
    client = Client()
    assert client.login(username=STAFF, password=PASSWORD)
    return client


@pytest.fixture
def writer(site: Site) -> Client:
    """Somebody who is signed in, and no more."""
    client = Client()
    assert client.login(username=site.user, password=site.password)
    return client


@pytest.fixture
def nested(tmp_path: Path) -> Path:
    """A dictionary with nested groups."""
    folder = tiny_dictionary(tmp_path, "topk", source="1-res-nested", seed=3)
    config = json.loads((folder / "cfg.json").read_text())
    config["metadata"] |= {"matryoshka_widths": [16, 64, 128], "model_name": "gpt2-xl", "context_size": 1024}
    (folder / "cfg.json").write_text(json.dumps(config))
    return folder


def text(response) -> str:
    """Return a page with its white space as browsers show it."""
    return " ".join(response.content.decode().split())


def queries(client: Client, address: str) -> int:
    with CaptureQueriesContext(
        connection,
    ) as captured:
        assert client.get(address).status_code == 200
    return len(captured)


def test_adding_needs_an_account(site: Site):
    for address in ("/add/dictionary", "/add/model", "/add/corpus", "/runs/new?model=tiny"):
        answer = Client().get(address)
        assert answer.status_code == 302 and answer.url.startswith("/accounts/login")
    assert Client().get("/add").url == "/add/dictionary"


@pytest.mark.parametrize("what", ["dictionary", "model", "corpus"])
def test_the_machine_is_not_read_for_everybody(writer: Client, what: str):
    answer = writer.get(f"/add/{what}", {"path": "/etc"})
    assert answer.status_code == 403
    assert "FACET_ADD_FOLDERS" in text(answer) and "Look" in text(answer)


def test_a_look_says_what_it_is_and_where_it_disagrees(staff: Client, nested: Path):
    page = text(staff.get("/add/dictionary", {"path": str(nested)}))
    for said in ("saelens", "topk, k 8", "blocks.1.hook_resid_post", "16 + 48 + 64", "1-res-nested", "gpt2-xl"):
        assert said in page, said
    assert "Another model than in training" in page and "Another context size than in training" in page
    assert "Why Facet takes it for this" in page and "has its hook points and widths" in page
    assert (
        not Dictionary.objects.filter(source="1-res-nested").exists()
        and not Run.objects.filter(kind="addition").exists()
    )
    fragment = staff.get("/add/dictionary", {"path": str(nested)}, headers={"HX-Request": "true"})
    assert "<html" not in text(fragment) and "1-res-nested" in text(fragment)


def test_what_is_wrong_is_said_in_place_and_as_a_fragment(staff: Client, tmp_path: Path):
    page = staff.get("/add/dictionary", {"path": str(tmp_path / "none")})
    assert page.status_code == 404 and "There is nothing at" in text(page) and 'name="path"' in text(page)
    fragment = staff.get("/add/model", {"path": str(tmp_path)}, headers={"HX-Request": "true"})
    assert fragment.headers["X-Facet-Fragment"] == "problem" and "There is no model at" in text(fragment)


def test_a_dictionary_is_added_and_its_page_shows_what_its_files_say(staff: Client, nested: Path):
    form = {
        "path": str(nested),
        "model": "tiny",
        "dictionary": str(nested),
        "place": str(nested),
        "source": "1-res-mine",
    }
    answer = staff.post("/add/dictionary", form)
    assert answer.url == "/tiny/1-res-mine"
    page = text(staff.get(answer.url))
    for said in (
        "From its own files",
        "gpt2-xl",
        "1024 tokens, behind BOS",
        "16 + 48 + 64",
        "not built yet",
        "Evaluate",
    ):
        assert said in page, said
    assert "Another model than in training" in page and "as SAELens writes them" in page
    again = staff.post("/add/dictionary", form | {"source": "1-res-topk"})
    run = Run.objects.get(id=int(again.url.rsplit("/", 1)[1]))
    assert run.state == "failed" and "already there with other weights" in run.error
    assert Dictionary.objects.filter(path=str(nested)).count() == 1


def test_scripts_are_sent_to_what_was_added(staff: Client, nested: Path):
    form = {"path": str(nested), "model": "tiny", "dictionary": str(nested), "place": str(nested), "source": ""}
    answer = staff.post("/add/dictionary", form, headers={"HX-Request": "true"})
    assert (answer.status_code, answer.headers["HX-Redirect"]) == (204, "/tiny/1-res-nested")
    refused = staff.post("/add/dictionary", {"path": str(nested), "model": "tiny"}, headers={"HX-Request": "true"})
    assert refused.status_code == 422 and "No dictionary is chosen" in text(refused)


def test_a_model_is_looked_at_and_left_to_a_worker(staff: Client, tmp_path: Path, valkey: str):
    folder = tiny_model(tmp_path, "llama")
    page = text(staff.get("/add/model", {"path": str(folder)}))
    assert "llama" in page and "hook points in every block" in page and 'value="llama"' in page
    answer = staff.post("/add/model", {"path": str(folder), "name": "mine", "description": "", "revision": ""})
    run = Run.objects.get(id=int(answer.url.rsplit("/", 1)[1]))
    assert (run.state, run.params["slug"]) == ("queued", "mine") and not LanguageModel.objects.filter(
        slug="mine"
    ).exists()


def test_text_is_added_and_shown_with_its_documents(staff: Client, tmp_path: Path):
    for name in ("a.txt", "b.txt", "notes/c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"the text of {name}")
    page = text(staff.get("/add/corpus", {"path": str(tmp_path), "glob": "**/*.txt"}))
    assert "3 files" in page and not Corpus.objects.filter(name="Notes").exists()
    form = {"path": str(tmp_path), "glob": "**/*.txt", "name": "Notes", "description": "of a test"}
    assert staff.post("/add/corpus", form).url == "/corpora/notes"
    page = text(staff.get("/corpora/notes"))
    assert "notes/c.txt" in page and "of a test" in page and "no build has read it yet" in page
    filtered = text(staff.get("/corpora/notes?text=c.tx"))
    assert "notes/c.txt" in filtered and "/corpora/notes/0" not in filtered
    assert staff.get("/corpora/none").status_code == 404


def test_a_corpus_shows_what_was_made_of_it(site: Site):
    page = text(Client().get("/corpora/python"))
    assert "decoder.py" in page
    assert "1-res-topk" in page and "2-res-jump" in page and 'href="/tiny"' in page


def test_a_build_is_estimated_and_started(staff: Client, valkey: str):
    page = text(staff.get("/runs/new?model=tiny&source=1-res-topk"))
    assert "Reckoned from the build of tiny" in page and 'value="1-res-topk" checked' in page
    assert 'value="2-res-jump" checked' not in page
    query = "/runs/new?model=tiny&source=1-res-topk&tokens="
    fragment = staff.get(f"{query}50000", headers={"HX-Request": "true"})
    assert "about" in text(fragment) and "<html" not in text(fragment)
    assert "Write a whole number" in text(staff.get(f"{query}lots", headers={"HX-Request": "true"}))
    nothing = staff.get("/runs/new?model=tiny&tokens=5", headers={"HX-Request": "true"})
    assert "No dictionary is chosen" in text(nothing)
    form = {
        "model": "tiny",
        "source": ["1-res-topk", "2-res-jump"],
        "corpus": "python",
        "tokens": "5000",
        "context": "32",
    }
    run = Run.objects.get(id=int(staff.post("/runs/new", form).url.rsplit("/", 1)[1]))
    assert run.kind == "build" and run.dictionaries.count() == 2
    assert (run.params["n_tokens"], run.params["context_size"]) == (5000, 32)


def test_an_evaluation_is_started_once(writer: Client, site: Site, valkey: str):
    assert "Evaluate" in text(writer.get("/tiny/1-res-topk"))
    assert "Evaluate" not in text(Client().get("/tiny/1-res-topk"))
    form = {"corpus": "python", "tokens": "2,000", "split": "all"}
    answer = writer.post("/tiny/1-res-topk/evaluate", form)
    run = Run.objects.get(id=int(answer.url.rsplit("/", 1)[1]))
    assert (run.kind, run.params["n_tokens"], run.params["split"]) == ("evaluation", 2000, "all")
    assert "Being measured" in text(writer.get("/tiny/1-res-topk"))
    again = writer.post("/tiny/1-res-topk/evaluate", form)
    assert again.status_code == 409 and "is being evaluated by run" in text(again)
    assert writer.post("/tiny/2-res-jump/evaluate", form | {"tokens": "few"}).status_code == 422
    assert Client().post("/tiny/2-res-jump/evaluate", form).status_code == 302


def test_pages_ask_few_queries_however_many_dictionaries_there_are(staff: Client, nested: Path):
    """Sessions and accounts take two of them."""
    before = {
        "/add/dictionary": queries(staff, "/add/dictionary"),
        "/runs/new?model=tiny&source=1-res-topk": queries(staff, "/runs/new?model=tiny&source=1-res-topk"),
        "/corpora/python": queries(staff, "/corpora/python"),
        "/tiny/1-res-topk": queries(staff, "/tiny/1-res-topk"),
    }
    staff.post(
        "/add/dictionary",
        {"path": str(nested), "model": "tiny", "dictionary": str(nested), "place": str(nested), "source": ""},
    )
    assert {address: queries(staff, address) for address in before} == before
    assert before["/add/dictionary"] <= 6 and before["/corpora/python"] <= 8 and before["/tiny/1-res-topk"] <= 12


def test_the_levels_of_nested_groups_are_shown_and_filtered(site: Site, writer: Client):
    row = Dictionary.objects.get(source="1-res-topk")
    row.config = row.config | {"group_sizes": [16, 48, 64]}
    row.save()
    page = text(writer.get("/tiny/1-res-topk"))
    assert "nested group 0; 0 is the most general" in page and 'name="group"' in page
    assert "nested group 1" in text(writer.get("/tiny/1-res-topk?group=1"))
    assert "nested group 0;" not in text(writer.get("/tiny/1-res-topk?group=1"))
    assert "group 1 of" in text(writer.get("/tiny/1-res-topk/20"))
    features = writer.get("/api/v1/sources/tiny/1-res-topk/features?group=2&per_page=5").json()["features"]
    assert [feature["index"] for feature in features["rows"]] == [64, 65, 66, 67, 68] and features["total"] == 64
    assert {feature["group"] for feature in features["rows"]} == {2}
    assert writer.get("/api/v1/features/tiny/1-res-topk/20").json()["group"] == 1
    assert writer.get("/tiny/1-res-topk?group=3").status_code == 422
    assert writer.get("/tiny/2-res-jump?group=0").status_code == 422
