"""Looking, adding and measuring through the API: the same as on pages, as JSON."""

from __future__ import annotations

import pytest
from django.contrib.auth import get_user_model

from features.models import Corpus, Dictionary, Run
from tests.explorer.api.test_api import Api
from tests.tiny import tiny_dictionary


@pytest.fixture
def staff(world):
    return Api(get_user_model().objects.create_user("grace", is_staff=True))


@pytest.fixture
def anybody(world):
    return Api(get_user_model().objects.create_user("bob"))


@pytest.mark.parametrize(
    "path", ["looks/dictionaries", "looks/models", "looks/corpora", "dictionaries", "models", "corpora"]
)
def test_paths_are_read_for_staff_or_inside_the_folders_named(world, anybody, settings, tmp_path, path):
    body = {"path": str(tmp_path)} | ({"model": "tiny"} if path == "dictionaries" else {})
    assert Api()("POST", f"/api/v1/{path}", body)[0] == 401
    status, answer = anybody("POST", f"/api/v1/{path}", body)
    assert (status, answer["error"]["code"]) == (403, "not-allowed")
    settings.FACET_ADD_FOLDERS = [tmp_path]
    status, answer = anybody("POST", f"/api/v1/{path}", body)
    assert status != 403 and not Run.objects.filter(state="failed").exists()


def test_looks_are_json_and_write_nothing(staff, tmp_path):
    path = tiny_dictionary(tmp_path, "jumprelu", "blocks.0.hook_resid_post", source="0-res-new", seed=2)
    status, look = staff("POST", "/api/v1/looks/dictionaries", {"path": str(path)})
    [found] = look["dictionaries"]
    assert (status, found["source"], found["model"], found["architecture"]) == (200, "0-res-new", "tiny", "jumprelu")
    assert found["fits"] == [{"model": "tiny", "fits": True, "why": "", "is_named": True}]
    assert found["origin"]["evidence"] and found["origin"]["format"] == "saelens" and found["problem"] is None
    status, answer = staff("POST", "/api/v1/looks/dictionaries", {"path": str(tmp_path / "none")})
    assert (status, answer["error"]["code"]) == (404, "unknown-dictionary") and answer["error"]["remedy"]
    assert staff("POST", "/api/v1/looks/models", {"path": str(path)})[1]["error"]["code"] == "unknown-model"
    status, text = staff("POST", "/api/v1/looks/corpora", {"path": str(path), "glob": "*.json"})
    assert (status, text["n_files"], text["files"][0]["name"]) == (200, 1, "cfg.json")
    assert Dictionary.objects.count() == 2 and not Run.objects.exists() and not Corpus.objects.exists()


def test_dictionaries_are_added_one_by_one_or_by_a_pattern(staff, tmp_path):
    for layer in (0, 2):
        tiny_dictionary(tmp_path, "topk", f"blocks.{layer}.hook_resid_post", source=f"{layer}-res-new", seed=layer)
    tiny_dictionary(tmp_path, "topk", d_in=48, source="1-res-wide")
    body = {"path": str(tmp_path / "0-res-new"), "model": "tiny", "source": "0-res-mine", "release": "mine"}
    status, run = staff("POST", "/api/v1/dictionaries", body)
    assert (status, run["kind"], run["state"], run["links"]) == (201, "addition", "done", ["/tiny/0-res-mine"])
    _, source = staff("GET", "/api/v1/sources/tiny/0-res-mine")
    assert (source["release"], source["origin"]["model_name"], source["built_at"]) == ("mine", "tiny", None)
    status, run = staff("POST", "/api/v1/dictionaries", {"path": str(tmp_path), "match": "*-new"})
    assert (status, run["state"], run["links"]) == (201, "done", ["/tiny/2-res-new"])
    status, answer = staff("POST", "/api/v1/dictionaries", {"path": str(tmp_path / "1-res-wide"), "model": "tiny"})
    assert status == 422 and "48 wide" in answer["error"]["cause"]
    status, answer = staff("POST", "/api/v1/dictionaries", {"path": str(tmp_path / "0-res-new"), "model": "tiny"})
    assert status == 422 and answer["error"]["details"]["suggestions"] == ["/tiny/0-res-mine"]


def test_what_cannot_be_added_leaves_no_run(staff, tmp_path):
    for path in (str(tmp_path / "none"), str(tmp_path), "/" + "a" * 300):
        status, _ = staff("POST", "/api/v1/dictionaries", {"path": path, "model": "tiny", "source": "1-res-x"})
        assert status in (404, 422) and not Run.objects.exists()


def test_a_models_own_neurons_are_added_under_a_name(staff):
    body = {"path": "neurons:1", "model": "tiny", "source": "1-mine"}
    status, run = staff("POST", "/api/v1/dictionaries", body)
    assert (status, run["state"], run["links"]) == (201, "done", ["/tiny/1-mine"])
    assert Dictionary.objects.get(source="1-mine").architecture == "neurons"


def test_text_is_added_listed_and_paged(staff, tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text(f"text {number}")
    body = {"path": str(tmp_path), "glob": "*.txt", "name": "Three texts", "description": "for a test"}
    status, run = staff("POST", "/api/v1/corpora", body)
    assert (status, run["links"]) == (201, ["/corpora/three-texts"])
    [card] = Api()("GET", "/api/v1/corpora")[1]
    assert (card["n_documents"], card["n_bytes"], card["description"]) == (3, 18, "for a test")
    _, page = Api()("GET", "/api/v1/corpora/three-texts?text=2.t")
    assert [row["name"] for row in page["documents"]["rows"]] == ["2.txt"] and page["tokenizations"] == []
    assert Api()("GET", "/api/v1/corpora/none")[0] == 404


def test_an_evaluation_is_queued_and_an_estimate_given(staff, tmp_path, valkey):
    (tmp_path / "a.txt").write_text("text " * 100)
    staff("POST", "/api/v1/corpora", {"path": str(tmp_path), "name": "A text"})
    body = {"model": "tiny", "sources": ["1-res-topk"], "n_tokens": 500, "split": "all"}
    status, run = staff("POST", "/api/v1/evaluations", body)
    assert (status, run["kind"], run["state"]) == (201, "evaluation", "queued")
    assert staff("GET", "/api/v1/sources/tiny/1-res-topk")[1]["evaluating_run"] == run["id"]
    assert staff("POST", "/api/v1/evaluations", body)[0] == 409
    assert staff("POST", "/api/v1/evaluations", body | {"split": "half"})[0] == 422
    status, estimate = Api()("POST", "/api/v1/estimates", {"model": "tiny", "sources": ["1-res-topk"], "n_tokens": 10})
    assert status == 200 and estimate["seconds"] is None and estimate["disk_bytes"] > 0
