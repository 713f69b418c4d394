"""What the repository ships: it loads, does what its page says, and the page says what was measured."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from demo import readme
from demo.measure import language_model_loss, statistics
from demo.sources import list_sources
from demo.tokenizer import BOS, BOS_ID, Windows, token_stream
from inference.dictionaries import load_dictionary
from inference.language_models import load_language_model

DEMO = Path(readme.__file__).parent
SOURCES = sorted(path.name for path in (DEMO / "dictionaries").iterdir())


@pytest.fixture(scope="module")
def measured():
    return json.loads((DEMO / "measurements.json").read_text())


@pytest.fixture(scope="module")
def model():
    return load_language_model(DEMO / "model", device="cpu")


@pytest.fixture(scope="module")
def windows(model):
    return Windows(token_stream(model.tokenizer, list_sources("held-out")[::10]), model.context_size)


def test_page_agrees_with_the_measurements(measured):
    assert (DEMO / "README.md").read_text() == readme.render(measured)


def test_page_names_what_is_shipped(measured):
    assert sorted(measured["dictionaries"]) == sorted(measured["plans"]) == SOURCES


def test_shipped_files_are_small():
    folders = (DEMO / "model", DEMO / "dictionaries")
    assert sum(path.stat().st_size for folder in folders for path in folder.rglob("*")) < 25_000_000


def test_model_loads_with_transformers(measured):
    model = AutoModelForCausalLM.from_pretrained(DEMO / "model")
    tokenizer = AutoTokenizer.from_pretrained(DEMO / "model")
    assert (model.config.n_layer, model.config.n_embd) == (measured["recipe"]["layers"], measured["recipe"]["width"])
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert (tokenizer.bos_token, tokenizer.bos_token_id) == (BOS, BOS_ID)
    text = "def café(self):\n    return '→'\n"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_loss_is_near_the_stated_one(model, windows, measured):
    found = language_model_loss(model, windows, tokens=8192, batch=8)
    # Another sample, and on another machine other versions of the files.
    assert found["nats_per_token"] == pytest.approx(measured["model"]["nats_per_token"], abs=0.4)
    assert found["bits_per_byte"] == pytest.approx(measured["model"]["bits_per_byte"], rel=0.3)


def test_dictionaries_do_what_the_page_says(model, windows, measured):
    dictionaries = {source: load_dictionary(DEMO / "dictionaries" / source, device="cpu") for source in SOURCES}
    found = statistics(model, dictionaries, windows, tokens=4096, batch=8)
    for source, stated in measured["dictionaries"].items():
        assert found[source]["l0_mean"] == pytest.approx(stated["l0_mean"], rel=0.2)
        assert found[source]["explained_variance"] == pytest.approx(stated["explained_variance"], abs=0.1)


@pytest.mark.parametrize("source", SOURCES)
def test_config_is_in_the_layout_of_saelens(source, model):
    cfg = json.loads((DEMO / "dictionaries" / source / "cfg.json").read_text())
    metadata = cfg["metadata"]
    assert metadata["prepend_bos"] is True
    assert metadata["context_size"] == model.context_size
    assert cfg["d_in"] == model.width(metadata["hook_name"])
    assert cfg["apply_b_dec_to_input"] == (not cfg["architecture"].endswith("transcoder"))
    assert cfg["reshape_activations"] == ("hook_z" if "hook_z" in metadata["hook_name"] else "none")


@pytest.mark.parametrize("source", SOURCES)
def test_decoder_rows_have_unit_norm(source):
    dictionary = load_dictionary(DEMO / "dictionaries" / source, device="cpu")
    torch.testing.assert_close(dictionary.decoder.w_dec_fo.norm(dim=1), torch.ones(dictionary.n_features))
