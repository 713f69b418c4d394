"""Sources of features of attention's outputs: through Valkey and an engine, as pages and the API show them."""

from __future__ import annotations

import json
import re

import pytest
from django.test import Client

from explorer import asks, tracing
from explorer.live_queries import PromptQuery
from features import selectors
from inference.attribution import source_attributions
from inference.dictionaries import load_dictionary
from inference.errors import FacetError
from inference.language_models import load_language_model
from tests.explorer.world import register_dictionary
from tests.tiny import tiny_dictionary

TEXT = "def größe(naïve: str) -> str:\n    return '東京 🦊' + naïve"
SOURCE = "1-att-topk"


@pytest.fixture
def attention(world, folders, tmp_path):
    """A dictionary of heads' outputs beside those of the world; its folder."""
    folder = tiny_dictionary(tmp_path, "topk", "blocks.1.attn.hook_z", source=SOURCE)
    register_dictionary(world["1-res-topk"].model, SOURCE, folder)
    return folder


@pytest.fixture
def firing(attention, worker) -> int:
    """The feature that the text activates most."""
    query = PromptQuery(model="tiny", sources=(SOURCE,), text=TEXT, rank="max", density=None)
    return asks.prompt_features(query).features[0].index


def test_a_trace_equals_the_engine_called_directly(firing, attention, folders):
    found = tracing.trace(model="tiny", source=SOURCE, index=firing, text=TEXT)
    model = load_language_model(folders.model)
    direct = source_attributions(model, load_dictionary(attention), model.tokenize(TEXT), firing)
    assert found.n_firing == direct.n_firing > 0
    assert [token.position for token in found.traced] == [one.destination for one in direct.attributions]
    for shown, one in zip(found.traced, direct.attributions, strict=True):
        assert list(shown.sources) == pytest.approx(list(one.sources), rel=1e-3, abs=1e-5)
        assert [head.head for head in shown.heads] == [head.head for head in one.heads]
        assert shown.total + shown.bias + shown.remainder == pytest.approx(shown.pre_activation, rel=1e-3, abs=1e-4)
        assert shown.pre_activation == pytest.approx(shown.activation, rel=1e-3)


def test_the_api_answers_for_chosen_positions(firing):
    body = {"model": "tiny", "source": SOURCE, "index": firing, "text": TEXT, "positions": [9, 4, 9]}
    answer = Client().post("/api/v1/attributions", json.dumps(body), content_type="application/json")
    assert answer.status_code == 200
    told = answer.json()
    assert [token["position"] for token in told["traced"]] == [4, 9]
    for token in told["traced"]:
        assert len(token["sources"]) == len(told["tokens"])
        assert not any(token["sources"][token["position"] + 1 :])
        assert sum(token["sources"]) == pytest.approx(token["total"], rel=1e-3, abs=1e-4)


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"source": "1-res-topk"}, 422, "without-attribution"),
        ({"index": 4096}, 404, "not-found"),
        ({"source": "9-none"}, 404, "unknown-address"),
        ({"text": ""}, 422, "invalid-text"),
        ({"positions": [0]}, 422, "invalid-input"),
        ({"positions": [5000]}, 422, "invalid-input"),
    ],
)
def test_the_api_says_what_is_wrong(attention, worker, change, status, code):
    body = {"model": "tiny", "source": SOURCE, "index": 3, "text": TEXT} | change
    answer = Client().post("/api/v1/attributions", json.dumps(body), content_type="application/json")
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_which_sources_can_be_traced(attention, world):
    assert selectors.source_card("tiny", SOURCE).has_sources
    assert not selectors.source_card("tiny", "1-res-topk").has_sources


def test_the_test_box_shows_sources_from_the_same_pass(firing):
    client, url = Client(), f"/tiny/{SOURCE}/{firing}"
    html = client.post(f"{url}/test", {"text": TEXT}, headers={"HX-Request": "true"}).content.decode()
    assert 'id="test-sources"' in html
    assert 'hx-swap-oob="innerHTML"' in html
    found = tracing.trace(model="tiny", source=SOURCE, index=firing, text=TEXT)
    assert re.findall(r'data-destination="(\d+)"', html) == [str(token.position) for token in found.traced]
    assert html.count('aria-checked="true"') == 1
    assert 'data-unit="contribution"' in html
    # Without scripts the whole page comes, with the strongest token's sources.
    page = client.post(f"{url}/test", {"text": TEXT}).content.decode()
    assert "from tokens" in page
    assert "pre-activation" in page
    emptied = client.post(f"{url}/test", {"text": ""}, headers={"HX-Request": "true"}).content.decode()
    assert "data-traced" not in emptied
    assert 'id="test-sources"' in emptied


def test_other_test_boxes_have_no_place_for_sources(world, worker):
    html = Client().post("/tiny/1-res-topk/7/test", {"text": TEXT}, headers={"HX-Request": "true"}).content.decode()
    assert "test-sources" not in html
    assert "tokens" in html


def test_the_prompt_page_offers_sources_of_features_that_have_them(firing):
    query = {"model": "tiny", "text": TEXT, "run": "1", "density": "", "rank": "max", "top": "200"}
    html = Client().get("/prompt", query).content.decode()
    offered = set(re.findall(r'hx-post="/tiny/([^/]+)/\d+/sources"', html))
    assert offered == {SOURCE}
    panel = Client().post(f"/tiny/{SOURCE}/{firing}/sources", {"text": TEXT}).content.decode()
    assert f"{SOURCE}/{firing}</a>" in panel
    refused = Client().post("/tiny/1-res-topk/7/sources", {"text": TEXT}).content.decode()
    assert "not the output of attention" in refused


def test_what_cannot_be_traced_or_run_is_an_error_with_a_remedy(attention, worker):
    with pytest.raises(FacetError) as raised:
        tracing.trace(model="tiny", source="2-res-jump", index=1, text=TEXT)
    assert raised.value.remedy
