"""A crosscoder of two registered models, from a path to pages: add, build, evaluate, ask."""

from io import StringIO

import pytest
from django.core.management import call_command

from features import selectors, services
from features.loading import read_model
from features.looks.dictionaries import look_at_dictionaries
from features.models import Dictionary, LanguageModel, VocabularyToken
from inference.activations import capture
from inference.dictionaries.config import DictionaryDoesNotFit
from inference.serving import Engine
from inference.tasks import _specs
from tests.tiny import TEXT, tiny_model
from tests.tiny_sets import tiny_crosscoder

POINTS = "chat/blocks.0.hook_resid_mid+tiny/blocks.1.hook_resid_post"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_crosscoder(tmp_path_factory.mktemp("two") / "crosscoder", points=POINTS)


@pytest.fixture(scope="module")
def chat_facts(tmp_path_factory):
    return read_model(tiny_model(tmp_path_factory.mktemp("chat"), "llama", n_layers=2, seed=7))


@pytest.fixture
def chat(registered, chat_facts):
    return services.models.add_model(facts=chat_facts, slug="chat", name="Chat")


@pytest.fixture
def added(chat, folder):
    return services.dictionaries.add_dictionary(path=folder, model="tiny")


def refusal(folder, model="tiny"):
    with pytest.raises(DictionaryDoesNotFit) as error:
        services.dictionaries.add_dictionary(path=folder, model=model)
    assert not Dictionary.objects.filter(path=str(folder)).exists()
    return error.value


def test_it_is_refused_until_the_other_model_is_there(registered, folder, chat_facts):
    error = refusal(folder)
    assert "there is no model chat" in error.cause
    assert "Add that model under this name first" in error.remedy and "facet.json" in error.remedy
    services.models.add_model(facts=chat_facts, slug="chat", name="Chat")
    assert services.dictionaries.add_dictionary(path=folder, model="tiny").source == "1-cc-batchtopk"


def test_it_is_refused_where_ids_are_other_texts(chat, folder):
    tokens = VocabularyToken.objects.filter(model=chat, token_id__gte=100)
    tokens.filter(token_id__lt=103).update(text="renamed")
    services.dictionaries.check_fits(services.dictionaries.read_config(folder), LanguageModel.objects.get(slug="tiny"))
    tokens.update(text="renamed")
    assert f"{tokens.count()} of the 512 tokens of chat read otherwise in tiny" in refusal(folder).cause
    LanguageModel.objects.filter(slug="chat").update(d_vocab=600)
    assert "chat has 600 tokens and tiny 512" in refusal(folder).cause


def test_a_look_offers_both_models(chat, folder):
    look = look_at_dictionaries(str(folder))
    assert look.undecided and [fit.model for fit in look.dictionaries[0].fits if fit.fits] == ["chat", "tiny"]
    sources = {model: look_at_dictionaries(str(folder), model=model).addable[0].source for model in ("chat", "tiny")}
    # The layer where it reads the model itself.
    assert sources == {"chat": "0-cc-batchtopk", "tiny": "1-cc-batchtopk"}


def test_the_engine_reads_both_models(added, chat):
    engine = Engine(worker="test", capacity_bytes=1 << 30, device="cpu")
    spec, [of_dictionary] = _specs("tiny", [added.source])
    asked = {"text": TEXT, "rank": "max", "density": None, "positions": None, "top": 5, "truncate": False}
    best = engine.prompt_features(spec, [of_dictionary], **asked)["features"][0]
    controls = {"indices": [best["index"]], "text": TEXT, "truncate": False}
    [values] = engine.feature_activations(spec, of_dictionary, **controls)["values"]
    model = engine.model(spec)
    x_btd = capture(model, model.ids_bt(model.tokenize(TEXT)), [added.hook_point])[added.hook_point]
    a_tf = engine.dictionary(model, of_dictionary).encode(x_btd[0]).dense()
    assert values[1:] == pytest.approx(a_tf[1:, best["index"]].tolist(), rel=1e-4)
    assert best["peak"] == pytest.approx(max(values[1:]), rel=1e-4)
    # Those who ask for the model's other dictionaries load no companion.
    assert _specs("tiny", ["1-res-topk"])[0].companions == ()


def test_it_is_built_evaluated_and_shown(added, client):
    for command in (
        ("build", f"tiny/{added.source}", "--tokens", 1500, "--context-size", 48, "--inline"),
        ("evaluate", f"tiny/{added.source}", "--split", "all", "--tokens", 300),
    ):
        call_command(command[0], *map(str, command[1:]), stdout=StringIO())
    card = selectors.source_card("tiny", added.source)
    assert card.l0_mean > 0 and card.fidelity.ce_spliced != card.fidelity.ce_clean
    page = client.get(f"/tiny/{added.source}").content.decode()
    assert "chat/blocks.0.hook_resid_mid + tiny/blocks.1.hook_resid_post" in page
    assert "are those of tiny alone" in " ".join(page.split())
    assert "hook_resid_mid+" in client.get("/tiny").content.decode()
    assert client.get(f"/tiny/{added.source}/3").status_code == 200
    assert "only in tiny" in client.get(f"/steer?model=tiny&f={added.source}/3@1").content.decode()
    assert "only in tiny" not in client.get("/steer?model=tiny&f=1-res-topk/3@1").content.decode()
