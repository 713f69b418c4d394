"""Parquet files hold what is stored, in the documented schema."""

from __future__ import annotations

import builtins
import json
import re
from pathlib import Path

import pytest

from explorer.local.layout import CHECKOUT
from features import packed_examples
from features.exports.parquet import SCHEMA, NoParquet, write_parquet
from features.models import Context, Example, Explanation, Feature
from inference.errors import Conflict
from tests.features.conftest import N_FEATURES, World

SOURCE = "1-res-topk"


@pytest.fixture
def written(world: World, tmp_path: Path) -> Path:
    pytest.importorskip("pyarrow", reason="needs pyarrow: pip install 'facet[parquet]'")
    return write_parquet("tiny", SOURCE, tmp_path)


def table(written: Path, name: str) -> list[dict]:
    import pyarrow.parquet

    return pyarrow.parquet.read_table(written / f"{name}.parquet").to_pylist()


def test_files_have_the_schema(written: Path) -> None:
    import pyarrow.parquet

    for name, columns in SCHEMA.items():
        schema = pyarrow.parquet.read_schema(written / f"{name}.parquet")
        assert schema.names == list(columns)
        kinds = {"list<element: ": "list<", "timestamp[us, tz=UTC]": "timestamp", "halffloat": "half"}
        for field in schema:
            kind = str(field.type)
            for long, short in kinds.items():
                kind = kind.replace(long, short)
            assert kind == columns[field.name], field.name
        assert schema.metadata[b"facet.source"] == SOURCE.encode()


def test_the_schema_is_documented() -> None:
    text = (CHECKOUT / "docs" / "files.md").read_text()
    for name, columns in SCHEMA.items():
        section = text.split(f"### `{name}.parquet`\n")[1].split("\n#")[0]
        documented = dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", section, re.MULTILINE))
        assert documented == columns


def test_features_are_those_that_are_stored(world: World, written: Path) -> None:
    rows = table(written, "features")
    assert [row["index"] for row in rows] == list(range(N_FEATURES))
    for row, stored in zip(rows, Feature.objects.of(world.dictionaries[SOURCE].pk).order_by("index"), strict=True):
        assert row["histogram"] == stored.histogram
        assert row["maximum"] == pytest.approx(stored.maximum, rel=1e-6)
        assert row["promoted_ids"] == stored.promoted_ids
        assert row["density"] == stored.firing_count / world.dictionaries[SOURCE].stats["n_tokens"]


def test_examples_and_contexts_are_those_that_are_stored(world: World, written: Path) -> None:
    contexts = {row["context"]: row for row in table(written, "contexts")}
    dictionary = world.dictionaries[SOURCE]
    assert len(contexts) == Context.objects.filter(tokenization=dictionary.tokenization).count()
    rows = table(written, "examples")
    stored = {
        (row.index, found.group, found.rank): found
        for row in Example.objects.filter(dictionary_id=dictionary.pk)
        for found in packed_examples.unpack(row.packed)
    }
    assert len(rows) == len(stored)
    for row in rows:
        same = stored[row["index"], row["group"], row["rank"]]
        assert (row["context"], row["positions"], row["values"]) == (same.context, same.positions, same.values)
        context = contexts[row["context"]]
        assert len(context["tokens"]) == len(context["token_ids"]) > max(row["positions"], default=0)


def test_explanations_keep_their_origin(world: World, written: Path) -> None:
    rows = table(written, "explanations")
    assert len(rows) == Explanation.objects.filter(dictionary=world.dictionaries[SOURCE]).count() > 0
    assert {row["method"] for row in rows} == {"test-method"}
    assert all(isinstance(json.loads(row["evidence"]), dict) for row in rows)


def test_a_folder_that_is_there_is_not_written_over(world: World, written: Path) -> None:
    with pytest.raises(Conflict, match="is there already"):
        write_parquet("tiny", SOURCE, written.parent.parent)


def test_without_pyarrow_the_error_says_what_to_install(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *arguments, **keywords):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(NoParquet, match=r"facet\[parquet\]"):
        write_parquet("tiny", SOURCE, tmp_path)
    assert not (tmp_path / "tiny").exists()
