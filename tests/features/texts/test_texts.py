"""Corpora of every kind of text, with what is no document counted, and built from where the text is."""

from __future__ import annotations

import json
import tracemalloc

import pytest
from django.core.management import call_command

from features import selectors, services
from features.builds import documents_of as documents_in
from features.models import Corpus
from features.texts import Skips, documents_of, finding, lines
from features.texts.copies import ParquetNeedsPyarrow
from features.texts.datasets import DatasetUnavailable
from inference.dashboards.corpus import text_of
from inference.errors import Conflict, InvalidInput, NotFound

TEXTS = ["One text.\nOf two lines.", "größe 東京 🦊", "def f():\n    return 1\n"]


@pytest.fixture
def found(tmp_path):
    """Return a function from a place and options to (documents, skips)."""

    def look(place, **options):
        skips = Skips()
        documents = list(documents_of(str(place), skips=skips, copies_at=tmp_path / "copies", **options))
        return documents, skips

    return look


@pytest.fixture
def jsonl(tmp_path):
    path = tmp_path / "texts.jsonl"
    rows = [{"text": text, "id": number, "tags": ["no"], "long": "x" * 500} for number, text in enumerate(TEXTS)]
    bad = ['{"text": "cut', '{"body": "elsewhere"}', '{"text": ""}', '{"text": 5}', "[1]", '{"text": "\\ud800 alone"}']
    path.write_text("\n".join([json.dumps(row, ensure_ascii=False) for row in rows] + ["", *bad]) + "\n")
    return path


def test_lines_of_json_are_documents_where_they_are(found, jsonl):
    documents, skips = found(jsonl)
    assert [document.name for document in documents] == [f"texts.jsonl:{n}" for n in (1, 2, 3, 10)]
    assert skips.counts == {"not JSON": 1, "without 'text'": 1, "empty": 1, "not text": 1, "not an object": 1}
    assert skips.first[0] == {"name": "texts.jsonl:5", "reason": "not JSON"}
    assert documents[1].metadata == {"id": 1, "long": "x" * 200}
    assert [jsonl.read_bytes()[d.start : d.start + d.n_bytes][:1] for d in documents] == [b"{"] * 4


def test_a_line_that_is_enormous_is_counted_and_never_held(found, tmp_path):
    path = tmp_path / "big.jsonl"
    with path.open("w") as file:
        file.write('{"text": "' + "y" * 40_000_000 + '"}\n' + json.dumps({"text": "after"}) + "\n")
    tracemalloc.start()
    documents, skips = found(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert skips.counts == {"enormous": 1}
    assert [document.name for document in documents] == ["big.jsonl:2"]
    assert peak < 5 * lines._MOST_BYTES


def test_a_field_that_no_line_has_names_those_that_there_are(found, jsonl):
    with pytest.raises(InvalidInput, match="'content'") as caught:
        found(jsonl, field="content")
    assert "text" in caught.value.remedy


def test_a_folder_of_source_code_leaves_out_what_is_none(found, tmp_path):
    root = tmp_path / "code"
    for name in ("a.py", "pkg/b.py", ".git/config", "node_modules/x.js", "pkg/__pycache__/b.pyc", ".hidden"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x = 1\n")
    (root / "picture.png").write_bytes(b"\x89PNG\0\0")
    (root / "nothing.txt").write_text("")
    documents, skips = found(root)
    assert [document.name for document in documents] == ["a.py", "pkg/b.py"]
    assert skips.counts == {"binary": 1, "empty": 1}
    assert [d.name for d in found(root, glob="**/*.js")[0]] == ["node_modules/x.js"]


def test_parquet_without_pyarrow_says_so(found, tmp_path):
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    try:
        import_module = __import__("importlib").import_module
        import_module("pyarrow")
    except ImportError:
        with pytest.raises(ParquetNeedsPyarrow, match="pyarrow"):
            found(tmp_path / "rows.parquet")
    else:
        with pytest.raises(InvalidInput, match="damaged"):
            found(tmp_path / "rows.parquet")


def test_parquet_becomes_lines_once(found, tmp_path):
    parquet, arrow = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    table = arrow.table({"body": TEXTS, "year": [2001, 2002, 2003]})
    parquet.write_table(table, tmp_path / "rows.parquet")
    for _ in range(2):
        documents, skips = found(tmp_path / "rows.parquet", field="body")
        assert [document.metadata for document in documents] == [{"year": 2001}, {"year": 2002}, {"year": 2003}]
        assert not skips.counts
    [copy] = (tmp_path / "copies").iterdir()
    assert [json.loads(line)["body"] for line in copy.read_text().splitlines()] == TEXTS
    with pytest.raises(InvalidInput, match="'text'"):
        found(tmp_path / "rows.parquet")


def test_a_dataset_without_a_network_fails_at_once(found, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DatasetUnavailable) as caught:
        found(f"{finding.HUB}somebody/some-texts")
    assert "HF_HUB_OFFLINE" in caught.value.remedy


def test_places_without_text_are_said(found, tmp_path):
    with pytest.raises(NotFound, match="no folder"):
        found(tmp_path / "nowhere")
    with pytest.raises(NotFound, match="matches"):
        found(tmp_path, glob="*.none")


def test_a_corpus_of_lines_is_added_shown_and_read(db, jsonl, settings, tmp_path, capsys):
    settings.FACET_CORPORA = tmp_path / "copies"
    call_command("add_corpus", "Lines", str(jsonl))
    said = capsys.readouterr().out
    assert "4 documents" in said and "Left out: 1 not JSON" in said and "texts.jsonl:5: not JSON" in said
    corpus = Corpus.objects.get()
    assert corpus.skipped["counts"]["empty"] == 1 and corpus.origin["field"] == "text"
    assert [text_of(ref) for ref in documents_in(corpus)][:3] == TEXTS
    page = selectors.document("lines", 1)
    assert page.lines == (TEXTS[1],) and not page.changed
    call_command("add_corpus", "Lines", str(jsonl))
    assert Corpus.objects.count() == 1
    jsonl.write_text(json.dumps({"text": "other"}) + "\n")
    with pytest.raises(NotFound, match="no longer"):
        selectors.document("lines", 2)
    with pytest.raises(Conflict):
        services.corpora.add_corpus(name="Lines", documents=documents_of(str(jsonl), skips=Skips(), copies_at=tmp_path))


def test_a_corpus_in_which_nothing_is_a_document_is_refused(db, tmp_path):
    (tmp_path / "a.jsonl").write_text("no\nno\n")
    skips = Skips()
    with pytest.raises(InvalidInput, match="2 not JSON"):
        services.corpora.add_corpus(
            name="Nothing", documents=documents_of(str(tmp_path), skips=skips, copies_at=tmp_path), skips=skips
        )
    assert not Corpus.objects.exists()
