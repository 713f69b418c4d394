"""Imports, exports and saved pages, as the site and the API offer them."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from django.test import Client

from features import services
from features.exports.neuronpedia import write_neuronpedia
from features.jobs import work
from features.models import Dictionary, Run
from features.selectors.suggestions import NoWeights
from tests.features.conftest import World

SOURCE = "1-res-topk"


@pytest.fixture(autouse=True)
def folders(settings, tmp_path: Path) -> None:
    settings.FACET_BUILDS, settings.FACET_EXPORTS = tmp_path / "builds", tmp_path / "exports"
    settings.FACET_ADD_FOLDERS = [tmp_path / "open"]


@pytest.fixture
def signed_in(world: World, user) -> Client:
    client = Client()
    client.force_login(user)
    return client


def test_an_export_is_downloaded_when_it_is_done(signed_in: Client) -> None:
    answer = signed_in.post(
        "/api/v1/exports",
        {"model": "tiny", "source": SOURCE},
        content_type="application/json",
        headers=_csrf(signed_in),
    )
    assert answer.status_code == 201, answer.content
    run = answer.json()["id"]
    assert signed_in.get(f"/runs/{run}/download").status_code == 404
    work(run)
    row = Run.objects.get(id=run)
    assert row.state == "done", row.error
    assert row.result["links"] == [f"/runs/{run}/download"]
    for address in (f"/runs/{run}/download", f"/api/v1/runs/{run}/download"):
        answer = signed_in.get(address)
        with tarfile.open(fileobj=io.BytesIO(b"".join(answer.streaming_content))) as tar:
            assert f"tiny/{SOURCE}/features/batch-0.jsonl.gz" in tar.getnames()


def test_a_dictionary_is_exported_from_its_page(signed_in: Client) -> None:
    page = signed_in.get(f"/tiny/{SOURCE}").content.decode()
    assert f'action="/tiny/{SOURCE}/export"' in page
    assert 'name="format" value="neuronpedia"' in page
    assert "/export" not in Client().get(f"/tiny/{SOURCE}").content.decode()
    answer = signed_in.post(f"/tiny/{SOURCE}/export", {"format": "neuronpedia"})
    assert answer["Location"] == f"/runs/{Run.objects.get().pk}"


def test_an_archive_of_an_export_is_imported_through_the_page(signed_in: Client, tmp_path: Path) -> None:
    write_neuronpedia("tiny", SOURCE, tmp_path / "open" / "export")
    place = str(tmp_path / "open" / "export")
    answer = signed_in.post("/add/dashboards", {"place": place, "model": "copy"})
    assert answer.status_code == 302, answer.content
    run = Run.objects.get()
    assert answer["Location"] == f"/runs/{run.pk}"
    work(run.pk)
    run.refresh_from_db()
    assert run.state == "done", run.error
    assert signed_in.get(f"/copy/{SOURCE}/3").status_code == 200


def test_an_account_reads_no_folder_that_is_not_open_to_it(signed_in: Client, tmp_path: Path) -> None:
    answer = signed_in.post("/add/dashboards", {"place": str(tmp_path)})
    assert answer.status_code == 403
    assert not Run.objects.exists()


def test_visitors_start_nothing(world: World) -> None:
    assert Client().get("/add/dashboards").status_code == 200
    for address, form in (("/add/dashboards", {"place": "/"}), (f"/tiny/{SOURCE}/export", {"format": "parquet"})):
        assert Client().post(address, form).status_code in (302, 401, 403)
    assert not Run.objects.exists()


@pytest.mark.parametrize("prefix", ["/", "/api/v1/features/"])
def test_a_feature_is_saved_as_a_file(world: World, prefix: str) -> None:
    answer = Client().get(f"{prefix}tiny/{SOURCE}/3/file")
    assert answer.status_code == 200
    assert answer["Content-Disposition"] == f'attachment; filename="tiny-{SOURCE}-3.html"'
    assert b"<!doctype html>" in answer.content


def test_pages_offer_to_save(world: World) -> None:
    assert f'href="/tiny/{SOURCE}/3/file"' in Client().get(f"/tiny/{SOURCE}/3").content.decode()


def _csrf(client: Client) -> dict[str, str]:
    client.get("/api")
    return {"X-CSRFToken": client.cookies["csrftoken"].value} if "csrftoken" in client.cookies else {}


def test_what_needs_weights_says_that_they_are_not_here(signed_in: Client, tmp_path: Path, settings) -> None:
    write_neuronpedia("tiny", SOURCE, tmp_path / "open")
    work(services.imports.create_import(place=str(tmp_path / "open"), model="copy"))
    page = signed_in.get(f"/copy/{SOURCE}/3").content.decode()
    assert "imported" in page
    asked = {"model": "copy", "sources": [SOURCE], "text": "def"}
    answer = signed_in.post("/api/v1/prompt", asked, content_type="application/json", headers=_csrf(signed_in))
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "no-weights"
    dictionary = Dictionary.objects.get(model__slug="copy")
    for create in (services.runs.create_build, services.evaluations.create):
        with pytest.raises(NoWeights):
            create(dictionaries=[dictionary.pk], corpus="some-files", n_tokens=1000)
