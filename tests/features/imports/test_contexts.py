"""Texts and spans of contexts that are joined at once, against each context's bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.imports.contexts import Token, _Vocabulary
from features.imports.strings import joined
from features.words import storable
from inference import packing
from inference.packing import Lists

# Whole characters, halves of them that meet or do not, what Postgres cannot hold, and nothing.
PIECES = [b"the", b" cat", "größe".encode(), b"\xc3", b"\xa9", b"\xf0\x9f", b"\x98\x80", b"\xff", b"a\0b", b"\n", b""]
contexts = st.lists(st.lists(st.integers(0, len(PIECES) - 1), min_size=1, max_size=9), min_size=1, max_size=6)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(contexts, st.booleans())
def test_texts_and_spans(contexts: list[list[int]], has_bos: bool) -> None:
    vocabulary = _Vocabulary([Token(number, data) for number, data in enumerate(PIECES)])
    bounds = np.concatenate([[0], np.cumsum([len(context) for context in contexts])])
    texts, spans = vocabulary.texts(np.concatenate(contexts), bounds, has_bos=has_bos)
    for context, text, packed in zip(contexts, texts, spans, strict=True):
        pieces = [PIECES[number] for number in context]
        if has_bos:
            pieces[0] = b""
        wanted, start_t, end_t = joined(pieces)
        assert text == storable(wanted)
        assert [part.tolist() for part in packing.unpack_spans(packed)] == [list(start_t), list(end_t)]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(contexts)
def test_ids(contexts: list[list[int]]) -> None:
    rows = packing.token_rows(Lists.of(contexts, np.uint32), 50_257)
    assert rows == [packing.pack_tokens(context, 50_257) for context in contexts]


def test_an_id_that_the_vocabulary_lacks() -> None:
    with pytest.raises(ValueError, match="outside a vocabulary of 9"):
        packing.token_rows(Lists.of([[1], [9]], np.uint32), 9)
