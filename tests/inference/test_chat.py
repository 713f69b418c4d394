"""Prompts as chat turns: the template's words, the user's own characters, one BOS."""

import pytest

from inference.chat import ModelWithoutChat, as_chat
from inference.language_models import LanguageModel, load_language_model
from inference.serving import DictionarySpec, Engine, ModelSpec
from tests.tiny import BOS, tiny_dictionary, tiny_model, tiny_tokenizer

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<{{ message['role'] }}>{{ message['content'] | trim }}</turn>"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture(scope="module")
def chatting(tmp_path_factory) -> LanguageModel:
    folder = tiny_model(tmp_path_factory.mktemp("chat"))
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return load_language_model(folder)


def test_a_turn_is_in_the_templates_words_without_a_second_bos(chatting):
    turn = as_chat(chatting, "  def größe(): ")
    assert turn.text == "<user>def größe():</turn><assistant>"
    assert turn.text[turn.start : turn.end] == "def größe():"
    tokens = chatting.tokenize(turn.text)
    assert tokens.ids.count(chatting.bos_id) == 1 and tokens.has_bos


def test_a_model_without_a_template_says_so(tmp_path):
    with pytest.raises(ModelWithoutChat, match="no chat template"):
        as_chat(load_language_model(tiny_model(tmp_path)), "text")


def test_the_engine_answers_for_the_turn_and_says_what_is_the_users(chatting, tmp_path):
    path = tiny_dictionary(tmp_path, "topk")
    engine = Engine(worker="test", capacity_bytes=1 << 30, device="cpu")
    model = ModelSpec(slug="tiny", path=chatting.path, revision=None)
    spec = DictionarySpec(source="1-res-topk", path=str(path), sha256="", scales=None)
    controls = {"rank": "max", "density": None, "positions": None, "top": 5, "truncate": False}
    plain = engine.prompt_features(model, [spec], text="import os", **controls)
    turn = engine.prompt_features(model, [spec], text="import os", chat=True, **controls)
    assert plain["own"] is None and plain["tokens"]["text"] == "import os"
    assert turn["tokens"]["text"] == "<user>import os</turn><assistant>"
    first, last = turn["own"]
    assert turn["tokens"]["text"][first:last] == "import os"
    assert turn["tokens"]["names"][0] == BOS and turn["tokens"]["names"].count(BOS) == 1
