import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from inference.digests import file_sha256
from inference.language_models import (
    DamagedModel,
    ModelWithoutTokenizer,
    PromptTooLong,
    UnknownModel,
    UnsupportedModel,
    load_language_model,
)
from inference.text import EmptyText, InvalidText
from tests.tiny import CONTEXT_SIZE, TEXT


@pytest.fixture
def broken(model_folders, tmp_path):
    """A copy of the GPT-2 folder to damage."""
    return shutil.copytree(model_folders["gpt2"], tmp_path / "broken")


def test_a_model_knows_its_shape_and_weights(model, model_folders):
    assert (model.n_layers, model.n_heads, model.d_head, model.d_model) == (3, 4, 8, 32)
    assert (model.d_vocab, model.context_size, model.bos_id, model.eos_ids) == (512, CONTEXT_SIZE, 0, {0})
    assert model.revision == model.sha256 == file_sha256(model_folders[model.family.name] / "model.safetensors")
    assert model.n_bytes > 4 * model.d_vocab * model.d_model
    assert model.width("blocks.1.attn.hook_z") == 32
    assert model.width("blocks.1.attn.hook_z.1") == 8
    assert model.width("blocks.1.mlp.hook_post") == {"gpt2": 128, "llama": 96}[model.family.name]


def test_tokenize_gives_offsets_that_tile_the_text(model):
    tokens = model.tokenize(TEXT)
    assert tokens.has_bos
    assert (tokens.ids[0], tokens.starts[0], tokens.ends[0]) == (0, 0, 0)
    reached = 0
    for start, end in zip(tokens.starts, tokens.ends, strict=True):
        assert start <= reached <= end
        reached = end
    assert reached == len(TEXT)


def test_tokens_of_one_character_share_its_span(model):
    tokens = model.tokenize("a🦊b")
    spans = list(zip(tokens.starts, tokens.ends, strict=True))
    assert spans.count((1, 2)) == 4
    assert model.tokenize("a🦊b", prepend_bos=False).ids == tokens.ids[1:]


def test_vocabulary_names_every_token(model):
    vocabulary = model.vocabulary()
    assert len(vocabulary) == model.d_vocab
    assert all(vocabulary)


def test_tokenize_refuses_what_does_not_fit_and_cuts_when_asked(model):
    text = "hello world " * 100
    with pytest.raises(PromptTooLong) as caught:
        model.tokenize(text)
    details = caught.value.details
    assert details["limit"] == CONTEXT_SIZE
    assert details["n"] == len(model.tokenizer(text).input_ids) + 1
    assert len(model.tokenize(text[: details["cut_at"]])) <= CONTEXT_SIZE
    cut = model.tokenize(text, truncate=True)
    assert len(cut) == CONTEXT_SIZE
    assert cut.text == text[: details["cut_at"]]


def test_a_cut_keeps_characters_whole(model):
    cut = model.tokenize("🦊" * 5, max_tokens=8, truncate=True)
    assert cut.text == "🦊"
    assert len(cut) == 5


@pytest.mark.parametrize(
    ("text", "error"),
    [("", EmptyText), ("a\0b", InvalidText), ("a\ud83e", InvalidText)],
    ids=["empty", "nul", "surrogate"],
)
def test_tokenize_refuses_what_is_no_text(model, text, error):
    with pytest.raises(error):
        model.tokenize(text)


def test_a_hundred_kilobytes_are_counted_not_run(gpt2):
    with pytest.raises(PromptTooLong):
        gpt2.tokenize("x = 1\n" * 17_000)


@pytest.mark.parametrize("exists", [False, True], ids=["missing", "empty"])
def test_load_refuses_a_folder_that_is_no_model(tmp_path, exists):
    with pytest.raises(UnknownModel):
        load_language_model(tmp_path if exists else tmp_path / "nothing")


def test_load_refuses_a_folder_without_tokenizer(broken):
    (broken / "tokenizer.json").unlink()
    with pytest.raises(ModelWithoutTokenizer):
        load_language_model(broken)


def test_load_names_the_supported_families(broken):
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps(config | {"model_type": "opt"}))
    with pytest.raises(UnsupportedModel, match="gpt2, gpt_neo, gpt_neox"):
        load_language_model(broken)


def test_load_refuses_truncated_weights(broken):
    path = broken / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DamagedModel):
        load_language_model(broken)


@pytest.mark.parametrize("damage", ["nan", "missing"])
def test_load_names_the_tensor_that_is_damaged(broken, damage):
    path = broken / "model.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if name.endswith("h.1.mlp.c_fc.weight"))
    if damage == "nan":
        tensors[name][3, 3] = torch.nan
    else:
        del tensors[name]
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(DamagedModel, match=r"h\.1\.mlp\.c_fc\.weight"):
        load_language_model(broken)
