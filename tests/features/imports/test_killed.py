"""An import whose process is killed at any moment: readers keep what they had, and it goes on where it stopped."""

from __future__ import annotations

import gzip
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from explorer.local.layout import CHECKOUT
from features import packed_examples, selectors, services
from features.exports.neuronpedia import write_neuronpedia
from features.jobs import work
from features.models import Dictionary, Example, Feature, Run
from inference.dashboards.results import HARD_SILENT
from tests.features.conftest import N_FEATURES, World
from tests.features.imports.test_killed_phases import held, waits

SOURCE = "1-res-topk"
COPIES = 10


@pytest.fixture
def grown(transactional_db: None, world: World, tmp_path: Path) -> Path:
    """Export a dictionary and write its rows again and again, as further features in files of their own."""
    folder = write_neuronpedia("tiny", SOURCE, tmp_path / "export")
    (folder / "facet.json").unlink()
    source = json.loads((folder / "source.jsonl").read_text())
    source["saelensConfig"]["d_sae"] = COPIES * N_FEATURES
    (folder / "source.jsonl").write_text(json.dumps(source))
    for kind in ("features", "activations", "explanations"):
        with gzip.open(folder / kind / "batch-0.jsonl.gz") as file:
            rows = [json.loads(line) for line in file]
        for copy in range(1, COPIES):
            lines = []
            for row in rows:
                changed = {**row, "index": str(int(row["index"]) + copy * N_FEATURES)}
                lines.append(json.dumps(changed))
            (folder / kind / f"batch-{copy}.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode(), 1))
    return folder


@pytest.fixture
def import_process(process_env: dict[str, str], settings, tmp_path: Path) -> Callable[[Path], subprocess.Popen]:
    """Return a function that starts to import a folder in a process of its own."""
    settings.FACET_BUILDS = tmp_path / "builds"

    def start(folder: Path) -> subprocess.Popen:
        command = [sys.executable, "manage.py", "import_features", str(folder), "--model", "copy", "--inline"]
        env = {**process_env, "FACET_BUILDS": str(tmp_path / "builds")}
        return subprocess.Popen(command, cwd=CHECKOUT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    return start


def seen(dictionary: Dictionary) -> tuple[object, ...]:
    """Return what readers see of one feature, and when it was stored."""
    maximum = selectors.feature_card("copy", SOURCE, 7).maximum
    return maximum, selectors.example_groups(dictionary.pk, 7, 9), dictionary.built_at


def kill_when(process: subprocess.Popen, happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert process.poll() is None, "the import was over before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("moment", ["reading", "storing"])
def test_a_killed_import_leaves_what_was_there_and_goes_on(
    grown: Path, import_process: Callable[[Path], subprocess.Popen], tmp_path: Path, moment: str
) -> None:
    # What readers have before: the first features alone.
    small = tmp_path / "small" / SOURCE
    for kind in ("features", "activations"):
        (small / kind).mkdir(parents=True)
        (small / kind / "batch-0.jsonl.gz").hardlink_to(grown / kind / "batch-0.jsonl.gz")
    work(services.imports.create_import(place=str(small), model="copy"))
    old = Dictionary.objects.get(model__slug="copy", source=SOURCE)
    before = seen(old)

    shards = tmp_path / "builds"
    if moment == "reading":
        kill_when(import_process(grown), lambda: len(list(shards.glob("run-*/source-0/shard-*/shard.json"))) >= 5)
    else:
        with held("examples", old.pk):
            kill_when(import_process(grown), lambda: waits("examples"))
    run = Run.objects.get(state="running")
    assert seen(Dictionary.objects.get(pk=old.pk)) == before
    assert Feature.objects.of(old.pk).count() == N_FEATURES

    finished = {path: path.stat().st_mtime_ns for path in shards.glob("run-*/source-0/shard-*/shard.json")}
    assert finished
    kept = tmp_path / "kept"
    kept.mkdir()
    for number, path in enumerate(sorted(finished)):
        (kept / str(number)).hardlink_to(path)
    assert services.runs.requeue(run=run.pk)
    work(run.pk)
    run.refresh_from_db()
    assert run.state == "done", run.error
    assert Feature.objects.of(old.pk).count() == COPIES * N_FEATURES
    assert [(kept / str(n)).stat().st_mtime_ns for n in range(len(finished))] == [finished[p] for p in sorted(finished)]
    firing = {
        index: sum(found.group < HARD_SILENT for found in packed_examples.unpack(packed))
        for index, packed in Example.objects.filter(dictionary_id=old.pk).values_list("index", "packed")
    }
    assert sum(firing.values()) == COPIES * sum(n for index, n in firing.items() if index < N_FEATURES) > 0
    assert not list(shards.glob("run-*/source-0"))
