"""Kill -9 in the middle of a download: what has arrived stays, and a resumed run asks for the rest alone."""

from __future__ import annotations

import gzip
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from explorer.local.layout import CHECKOUT
from features import selectors, services
from features.imports.fetching import BLOCK
from features.jobs import work
from features.models import Dictionary, Feature, Run
from tests.features.conftest import N_FEATURES, World
from tests.features.imports.serving import Server

SOURCE = "1-res-topk"
# Before it, in the order of their names, the activations are fetched.
LARGE = "features/batch-0.jsonl.gz"


@pytest.fixture
def large(transactional_db: None, world: World, exported: Path, server: Server) -> bytes:
    """Serve an export with a file of many blocks: blank lines, which say nothing, make it so."""
    shutil.copytree(exported, server.root, dirs_exist_ok=True)
    path = server.root / "tiny" / SOURCE / LARGE
    blank = (b" " * (BLOCK - 1) + b"\n") * 8
    path.write_bytes(path.read_bytes() + gzip.compress(blank, compresslevel=0))
    return path.read_bytes()


@pytest.mark.django_db(transaction=True)
def test_a_download_that_is_killed_goes_on(
    large: bytes, server: Server, process_env: dict[str, str], settings, tmp_path: Path
) -> None:
    settings.FACET_BUILDS = tmp_path / "builds"
    server.stalls_at = LARGE
    process = subprocess.Popen(
        [sys.executable, "manage.py", "import_features", f"{server.url}/tiny/{SOURCE}/", "--model", "copy", "--inline"],
        cwd=CHECKOUT,
        env={**process_env, "FACET_BUILDS": str(tmp_path / "builds")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        # The server has sent half and waits; all of that but the last block is on disk in a moment.
        while not (arrived := _partial(tmp_path)) or arrived.stat().st_size < len(large) // 2 - 2 * BLOCK:
            assert process.poll() is None, "the import was over before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert server.has_stalled.wait(60)
    finally:
        process.kill()
        process.wait()
    server.stalls_at = ""
    server.may_go_on.set()

    run = Run.objects.get()
    assert (run.state, run.phase) == ("running", "fetch")
    assert not Dictionary.objects.filter(model__slug="copy").exists()
    size = arrived.stat().st_size
    assert arrived.read_bytes() == large[:size]
    whole = {path for path, _, status in server.asked if status == 200 and ".json" in path} - {
        f"/tiny/{SOURCE}/{LARGE}"
    }
    assert any("activations" in path for path in whole)
    server.asked.clear()

    assert services.runs.requeue(run=run.pk)
    work(run.pk)
    run.refresh_from_db()
    assert run.state == "done", run.error
    # The rest of that file alone: what had arrived whole is asked for only if it has changed.
    assert server.gets(LARGE) == [(f"bytes={size}-", 206)]
    assert {(path, status) for path, _, status in server.asked if path in whole} == {(path, 304) for path in whole}
    # Checksums of the compressed data and the counts of facet.json agreed; so do the pages.
    old, new = (Dictionary.objects.get(model__slug=slug, source=SOURCE).pk for slug in ("tiny", "copy"))
    assert Feature.objects.of(new).count() == N_FEATURES
    for index in (0, 7, N_FEATURES - 1):
        maxima = {selectors.feature_card(slug, SOURCE, index).maximum for slug in ("tiny", "copy")}
        assert len(maxima) == 1
        ours, theirs = (
            [(group.code, group.total) for group in selectors.example_groups(dictionary, index, 9)]
            for dictionary in (new, old)
        )
        assert ours == theirs


def _partial(root: Path) -> Path | None:
    return next(root.glob(f"builds/run-*/fetched/**/{LARGE}.part"), None)
