import pytest
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from inference.text import TextStream, display, token_bytes
from tests.tiny import TEXT, tiny_tokenizer


def test_token_bytes_of_byte_level_tokens_join_to_the_text():
    tokenizer = tiny_tokenizer()
    bytes_of = token_bytes(tokenizer, len(tokenizer))
    assert b"".join(bytes_of[id_] for id_ in tokenizer(TEXT).input_ids) == TEXT.encode()
    assert bytes_of[0] == b"<|endoftext|>"


def test_token_bytes_of_sentence_pieces_have_spaces_and_bytes():
    vocabulary = {"<unk>": 0, "\u2581the": 1, "<0xE2>": 2, "fox": 3}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True))
    backend.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    assert token_bytes(tokenizer, 6) == (b"<unk>", b" the", b"\xe2", b"fox", b"", b"")


def test_display_writes_partial_characters_as_bytes():
    assert display("é".encode()) == "é"
    assert display("é".encode()[:1]) == "\\xc3"


@pytest.mark.parametrize("text", [TEXT, "🦊" * 3, "é"], ids=["mixed", "foxes", "accent"])
def test_text_stream_holds_back_incomplete_characters(text):
    tokenizer = tiny_tokenizer()
    ids = tokenizer(text).input_ids
    stream = TextStream(token_bytes(tokenizer, len(tokenizer)))
    pieces = [stream.push(id_, final=i == len(ids) - 1) for i, id_ in enumerate(ids)]
    assert "".join(pieces) == text
    assert "\ufffd" not in "".join(pieces)
    assert any(piece == "" for piece in pieces)


def test_text_stream_gives_up_incomplete_characters_at_the_end():
    tokenizer = tiny_tokenizer()
    ids = tokenizer("ab🦊").input_ids[:-1]
    stream = TextStream(token_bytes(tokenizer, len(tokenizer)))
    pieces = [stream.push(id_, final=i == len(ids) - 1) for i, id_ in enumerate(ids)]
    assert "".join(pieces) == tokenizer.decode(ids)
