"""What a look at text says there is, against what is read: documents and bytes within a tenth, tokens within half."""

from __future__ import annotations

import json
import random
import sysconfig
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from features.looks.corpora import look_at_corpus
from features.texts import Skips, documents_of
from inference.dashboards.corpus import text_of

DEMO = Path(__file__).parents[3] / "demo" / "model"
# Factors between what is said and what is there.
DOCUMENTS, TOKENS = 1.1, 1.5

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def sources() -> list[str]:
    folder = Path(sysconfig.get_paths()["stdlib"])
    return [path.read_text() for path in sorted(folder.glob("[a-d]*.py")) if path.stat().st_size > 2000][:40]


@pytest.fixture(scope="module")
def parts(sources) -> list[str]:
    draw = random.Random(3)
    return [text[: draw.randrange(500, 4000)] for text in sources for _ in range(8)]


def folder_of_text(folder: Path, sources, parts) -> None:
    for number, text in enumerate(sources):
        (folder / f"{number}.py").write_text(text)
    (folder / "empty.py").write_text("")
    (folder / "odd.bin").write_bytes(b"\0\1\2" * 100)


def lines_of_json(folder: Path, sources, parts) -> None:
    rows = [json.dumps({"text": text, "url": "https://example.org/" + "x" * 50}) for text in parts]
    (folder / "texts.jsonl").write_text("\n".join([*rows, "{cut", json.dumps({"other": 1})]) + "\n")


def parquet(folder: Path, sources, parts) -> None:
    arrow = pytest.importorskip("pyarrow", reason="pyarrow is for those who develop")
    from pyarrow import parquet as files

    rows = [{"text": text, "number": number} for number, text in enumerate(parts)]
    files.write_table(arrow.Table.from_pylist(rows), folder / "rows.parquet", row_group_size=100)


def source_code(folder: Path, sources, parts) -> None:
    (folder / "package").mkdir()
    for number, text in enumerate(sources):
        (folder / "package" / f"{number}.py").write_text(text)
    (folder / "node_modules").mkdir()
    (folder / "node_modules" / "big.js").write_text("x" * 1_000_000)


@pytest.mark.parametrize("write", [folder_of_text, lines_of_json, parquet, source_code], ids=lambda f: f.__name__)
def test_what_is_said_is_about_what_is_read(tmp_path, sources, parts, write):
    place = tmp_path / "texts"
    place.mkdir()
    write(place, sources, parts)
    look = look_at_corpus(str(place))
    skips = Skips()
    documents = list(documents_of(str(place), skips=skips, copies_at=tmp_path / "copies"))
    texts = [text_of(document) for document in documents]
    n_bytes = sum(len(text.encode()) for text in texts)
    tokenizer = AutoTokenizer.from_pretrained(DEMO)
    n_tokens = sum(len(ids) for ids in tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"])
    assert len(documents) > 30
    assert within(look.n_documents, len(documents), DOCUMENTS)
    assert within(look.n_text_bytes, n_bytes, DOCUMENTS)
    assert within(look.n_tokens, n_tokens, TOKENS)


def within(said: int, there: int, factor: float) -> bool:
    return there / factor <= said <= there * factor


def test_what_cannot_be_told_is_not_said(tmp_path):
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 is not all")
    look = look_at_corpus(str(tmp_path))
    assert (look.n_documents, look.n_text_bytes, look.n_tokens) == (None, None, None)
    assert look_at_corpus("hub:owner/name@main").n_documents is None
    assert look_at_corpus("hub:owner/name@main").name == "name"
