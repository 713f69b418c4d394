"""Contexts: which documents are read, where windows begin, and what each token stands for."""

from __future__ import annotations

import inspect
import json

import numpy as np
import pytest

from inference.dashboards.corpus import NothingToRead, in_hash_order, local_keys, read_contexts
from inference.dashboards.results import DocumentRef
from inference.errors import InvalidInput
from tests.tiny import TEXT

SOURCE = inspect.getsource(json)


@pytest.fixture
def read(setting, tmp_path):
    """Return what reads texts given by name; bytes are written as they are."""

    def reader(texts, *, n_tokens=10_000, context_size=32, **options):
        documents = []
        for number, (name, text) in enumerate(texts.items()):
            path = tmp_path / name
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
            documents.append(DocumentRef(ordinal=number, name=name, path=str(path), split="train"))
        return read_contexts(setting.model, documents, n_tokens=n_tokens, context_size=context_size, **options)

    return reader


def test_texts_of_contexts_join_to_the_document(read):
    contexts, skipped = read({"json.py": SOURCE})
    assert "".join(contexts.text) == SOURCE[: sum(map(len, contexts.text))]
    assert len(SOURCE) - sum(map(len, contexts.text)) < 200
    assert not skipped
    for number, text in enumerate(contexts.text):
        ids, starts, ends = contexts.tokens(number)
        assert (ids[0], starts[0], ends[0]) == (0, 0, 0)
        assert "".join(text[s:e] for s, e in zip(starts[1:], ends[1:], strict=True)) == text
        before = "".join(contexts.text[:number])
        assert contexts.line_c[number] == before.count("\n") + 1


def test_characters_of_several_bytes_survive_the_cut_between_windows(read, setting):
    text = TEXT * 10
    contexts, _ = read({"text": text}, context_size=18)
    for number in range(len(contexts)):
        ids, starts, ends = contexts.tokens(number)
        assert contexts.text[number] in text
        assert (ends[1:] > starts[1:]).all()
        assert ends.max() == len(contexts.text[number])
        decoded = b"".join(setting.model.token_bytes[i] for i in ids[1:])
        assert decoded in contexts.text[number].encode()


def test_documents_that_cannot_be_read_are_skipped_and_listed(read):
    texts = {
        "good.py": SOURCE,
        "empty": "",
        "blank": " \n ",
        "latin": "é".encode("latin-1") * 50,
        "binary": b"MZ\0\0" * 50,
        "short": "x = 1\n",
        "enormous": "y" * 100_000,
    }
    contexts, skipped = read(texts, max_document_bytes=50_000)
    assert {document.name: document.reason for document in skipped} == {
        "empty": "empty",
        "blank": "empty",
        "latin": "not UTF-8",
        "binary": "binary",
        "short": "short",
        "enormous": "enormous",
    }
    assert set(contexts.document_c) == {0}


def test_missing_file_is_unreadable(setting, tmp_path):
    documents = [DocumentRef(ordinal=0, name="gone", path=str(tmp_path / "gone"))]
    with pytest.raises(NothingToRead, match="unreadable"):
        read_contexts(setting.model, documents, n_tokens=100, context_size=32)


def test_budget_is_never_exceeded(read):
    for budget in (100, 500, 501):
        contexts, _ = read({"a.py": SOURCE, "b.py": SOURCE.upper()}, n_tokens=budget)
        assert budget - 16 < contexts.n_tokens <= budget


def test_windows_too_short_are_said(read):
    with pytest.raises(InvalidInput, match="too short"):
        read({"a.py": SOURCE}, context_size=8)


def test_last_window_is_kept_from_sixteen_tokens_on(read):
    contexts, _ = read({"json.py": SOURCE})
    lengths = np.diff(contexts.indptr_c)
    assert (lengths[:-1] == 32).all()
    assert 17 <= lengths[-1] <= 32


def test_order_comes_from_a_hash_and_not_from_names_or_arguments():
    documents = [DocumentRef(ordinal=i, name=f"{i:03}", path="") for i in range(50)]
    names = [document.name for document in in_hash_order(documents)]
    assert names != sorted(names)
    assert names == [document.name for document in in_hash_order(documents[::-1])]


def test_equal_windows_up_to_spacing_and_case_are_duplicates(read):
    contexts, _ = read({"a.py": SOURCE, "b.py": SOURCE, "c.py": inspect.getsource(inspect)[:3000]})
    first = contexts.duplicate_of_c
    copies = np.flatnonzero(first != np.arange(len(contexts)))
    assert len(copies) > 5
    assert all(contexts.text[i] == contexts.text[first[i]] for i in copies)
    assert contexts.n_similar_c.sum() == len(copies)
    assert not contexts.n_similar_c[copies].any()


def test_local_keys_agree_where_the_surroundings_do(read):
    contexts, _ = read({"a.py": "alpha beta gamma delta epsilon zeta eta theta\n" * 20})
    keys = local_keys(contexts)
    ids = contexts.token_ids_t
    around: dict[tuple, set] = {}
    for number in range(len(contexts)):
        first, stop = contexts.indptr_c[number : number + 2]
        for token in range(first, stop):
            near = tuple(int(ids[i]) if first <= i < stop else -1 for i in range(token - 5, token + 3))
            around.setdefault(near, set()).add(int(keys[token]))
    assert all(len(found) == 1 for found in around.values())
    assert len({key for found in around.values() for key in found}) == len(around)
