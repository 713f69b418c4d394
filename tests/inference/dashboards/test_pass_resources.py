"""What a pass takes, memory and files, shows in none of its results."""

from __future__ import annotations

import io
import tempfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from inference.dashboards import accumulators, budget, masses, offered, pairs
from inference.dashboards.columns import ColumnReader, ColumnWriter
from inference.dashboards.examples import N_SILENT, Selection
from inference.dashboards.partials import WorkFolderUnusable
from tests.inference.dashboards.conftest import all_arrays


def test_pairs_of_large_dictionaries_survive_shards(setting, result, tmp_path, monkeypatch):
    monkeypatch.setattr(pairs, "LARGEST_EXACT", 10)
    other = setting.run(tmp_path)
    for source, board in other.dashboards.items():
        assert not board.co_firing_exact
        # Small enough for every pair to be among the most frequent: the lower bounds are the counts.
        np.testing.assert_array_equal(board.co_firing_ids_fk, result.dashboards[source].co_firing_ids_fk)
        np.testing.assert_array_equal(board.co_firing_counts_fk, result.dashboards[source].co_firing_counts_fk)


def test_result_does_not_depend_on_how_memory_is_shared_out(setting, result, tmp_path, monkeypatch):
    """Dictionaries go through a shard one by one, and a few features at a time are added up: the bytes stay."""
    monkeypatch.setattr(budget, "shard_bytes", lambda n_features: 1_000_000_000)
    monkeypatch.setattr(budget, "LEAST_MERGE_BYTES", 1)
    monkeypatch.setattr(budget.Budget, "merge_bytes", property(lambda self: 1))
    other = setting.run(tmp_path, memory=budget.resident_bytes() + 1_500_000_000)
    assert other.measurements["passes_over_a_shard"] == len(setting.dictionaries)
    for name, array in all_arrays(result).items():
        assert all_arrays(other)[name].tobytes() == array.tobytes(), name


def test_result_does_not_depend_on_when_candidates_are_looked_through(setting, result, tmp_path, monkeypatch):
    monkeypatch.setattr(offered, "_LOOKED_THROUGH", 1)
    other = setting.run(tmp_path)
    for name, array in all_arrays(result).items():
        assert all_arrays(other)[name].tobytes() == array.tobytes(), name


def test_what_a_shard_offers_grows_with_what_is_kept_and_not_with_the_text(monkeypatch):
    monkeypatch.setattr(offered, "_LOOKED_THROUGH", 2000)
    selection, feature = Selection(range(2)), np.arange(2)
    held = offered.Offered(2, selection)
    for number in range(500):
        context = np.full(2, number, dtype=np.int32)
        selection.offer_random(feature, context)
        selection.random.compact()
        held.add("random", feature=feature, context=context)
        assert held._n_bytes < 3000
    file = io.BytesIO()
    writer = ColumnWriter(file)
    held.write(writer, "")
    writer.close()
    data = file.getvalue()
    counts, rows = ColumnReader(lambda start, stop: data[start:stop], len(data)).table("random", range(2))
    kept = selection.random.kept()
    assert counts.tolist() == [2 * N_SILENT, 2 * N_SILENT]
    assert sorted(rows["context"].tolist()) == sorted(kept.context.tolist())


def test_memory_that_cannot_do_is_said_before_anything_is_read(setting, tmp_path):
    with pytest.raises(budget.MemoryTooSmall, match=r"may use 0\.1 GB") as caught:
        setting.run(tmp_path, memory=100_000_000)
    assert "FACET_BUILD_MEMORY" in caught.value.remedy
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", [b"", b"nonsense"])
def test_damaged_contexts_are_read_again(setting, result, tmp_path, damage):
    setting.run(tmp_path)
    path = sorted(tmp_path.glob("contexts/*/00002-*.columns"))[0]
    path.write_bytes(damage)
    for shard in tmp_path.glob("shards/*/00002-*.columns"):
        shard.unlink()
    again = setting.run(tmp_path)
    assert again.measurements["resumed_shards"] == again.measurements["shards"] - 1
    assert all(array.tobytes() == all_arrays(result)[name].tobytes() for name, array in all_arrays(again).items())


def test_a_corpus_is_tokenised_once(setting, tmp_path):
    first = setting.run(tmp_path / "one", contexts_dir=tmp_path / "contexts")
    seen = []
    again = setting.run(tmp_path / "two", contexts_dir=tmp_path / "contexts", progress=seen.append)
    assert "read" not in {moment.phase for moment in seen}
    assert again.contexts.digest == first.contexts.digest
    changed = replace(setting, documents=setting.documents[1:])
    changed.run(tmp_path / "three", contexts_dir=tmp_path / "contexts", progress=seen.append)
    assert "read" in {moment.phase for moment in seen}


def test_result_does_not_depend_on_what_is_reduced_while_other_batches_are_encoded(setting, tmp_path, monkeypatch):
    monkeypatch.setattr(accumulators, "_EVENTS_AT_ONCE", 400)
    threads, found = torch.get_num_threads(), []
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            found.append(all_arrays(setting.run(tmp_path / str(number), batch_tokens=64)))
    finally:
        torch.set_num_threads(threads)
    for name, array in found[0].items():
        assert found[1][name].tobytes() == array.tobytes(), name


def test_what_goes_wrong_while_reducing_ends_the_pass(setting, tmp_path, monkeypatch):
    # What is set aside finds no place.
    monkeypatch.setattr(masses, "_LONGEST_RUN", 0)
    monkeypatch.setattr(accumulators, "_EVENTS_AT_ONCE", 400)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(WorkFolderUnusable):
        setting.run(tmp_path)
    assert not list(tmp_path.rglob("*.part"))
