"""The command `evaluate`, from registered parts to the dictionary's page."""

import json
from io import StringIO

import pytest
from django.core.management import call_command
from django.urls import reverse

from features import selectors, services
from features.models import Dictionary, Document
from features.texts import Skips, documents_of
from inference.errors import FacetError, NotFound
from tests.tiny import TEXT

ADDRESS = "tiny/1-res-topk"


def run(*arguments: object) -> str:
    out = StringIO()
    call_command("evaluate", *map(str, arguments), stdout=out)
    return out.getvalue()


def test_figures_are_stored_and_shown(world, client):
    page = client.get(f"/{ADDRESS}").content.decode()
    assert "Not measured yet" in page and f"python manage.py evaluate {ADDRESS}" in page
    assert selectors.source_card("tiny", "1-res-topk").fidelity is None
    Document.objects.filter(name="again/argparse.py").update(split="test")
    said = run(ADDRESS, "--corpus", "some-files", "--tokens", 600, "--context-size", 32)
    assert said.startswith(ADDRESS) and "CE recovered" in said and "KL score" in said and "float32" in said
    found = selectors.source_card("tiny", "1-res-topk").fidelity
    assert (found.corpus, found.split, found.context_size, found.precision) == ("Some files", "test", 32, "float32")
    assert found.excluded == "BOS and padding" and found.measured_at.tzinfo is not None
    assert 500 < found.n_predictions < found.n_tokens <= 600
    assert 0 < found.l0_median <= found.l0_p90 <= 8
    assert selectors.source_card("tiny", "2-res-jump").fidelity is None
    page = client.get(f"/{ADDRESS}").content.decode()
    assert "Not measured yet" not in page and "nats clean" in page and "tokens of Some files (test" in page
    answer = client.get(reverse("api-1:source", args=["tiny", "1-res-topk"])).json()
    assert answer["fidelity"]["ce_recovered"] == found.ce_recovered


def test_text_in_lines_of_json_is_read_from_where_it_is(registered, tmp_path):
    rows = [json.dumps({"text": TEXT * 30, "id": number}) for number in range(6)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    skips = Skips()
    documents = documents_of(str(tmp_path), skips=skips, copies_at=tmp_path / "copies")
    services.corpora.add_corpus(name="Rows", documents=documents, skips=skips)
    run(ADDRESS, "--corpus", "rows", "--tokens", 300, "--split", "all")
    assert selectors.source_card("tiny", "1-res-topk").fidelity.corpus == "Rows"


def test_a_build_keeps_what_was_measured(world):
    run(ADDRESS, "--split", "train", "--tokens", 300)
    before = selectors.source_card("tiny", "1-res-topk").fidelity
    stats = Dictionary.objects.get(source="1-res-topk").stats
    world.attach()
    assert selectors.source_card("tiny", "1-res-topk").fidelity == before
    assert Dictionary.objects.get(source="1-res-topk").stats == stats


def test_all_dictionaries_of_a_model_are_measured_before_any_build(registered):
    said = run("tiny", "--split", "all", "--tokens", 300)
    assert ADDRESS in said and "tiny/2-res-jump" in said
    cards = selectors.source_cards("tiny")
    assert all(card.fidelity.split == "all" and card.built_at is None for card in cards)
    assert len({card.fidelity.ce_clean for card in cards}) == 1


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        ((ADDRESS, "--corpus", "none"), "There is no corpus 'none'"),
        ((ADDRESS, "--split", "half"), "no split 'half'"),
        ((ADDRESS, "--tokens", "3"), "cannot read 3 tokens"),
        (("tiny/9-none",), "no source '9-none'"),
        ((ADDRESS,), "None of 1 documents gave a context"),
    ],
)
def test_what_goes_wrong_has_a_cause_and_stores_nothing(registered, arguments, cause):
    with pytest.raises(FacetError) as error:
        run(*arguments)
    assert cause in error.value.cause and error.value.remedy
    assert Dictionary.objects.get(source="1-res-topk").stats == {}


def test_a_corpus_without_test_documents_says_what_to_do(registered):
    Document.objects.update(split="train")
    with pytest.raises(NotFound) as error:
        run(ADDRESS)
    assert "no document in its test split" in error.value.cause and "split 'all'" in error.value.remedy


def test_figures_of_a_removed_dictionary_are_refused(db):
    with pytest.raises(NotFound):
        services.evaluations.store(dictionary=12345, figures={})
