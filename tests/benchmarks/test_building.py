"""A measured build is a build: with servers, a worker and what its stages took."""

import pytest

from benchmarks import scaling
from benchmarks.build import stages
from benchmarks.building import Build
from benchmarks.scaling import Point, exponent
from tests.tiny import tiny_dictionary, tiny_model


def test_a_build_is_measured_by_stage(tmp_path):
    model = tiny_model(tmp_path)
    dictionary = tiny_dictionary(tmp_path, "topk", "blocks.1.hook_resid_post")
    run = Build(model=str(model), dictionary=str(dictionary), n_tokens=3000, threads=1).measured()
    assert run["n_tokens"] == pytest.approx(3000, abs=200)
    assert run["measurements"]["workers"] == 1
    assert run["seconds"] >= run["measurements"]["seconds"] > 0
    found = stages(run)
    assert {"read", "model", "encode", "reduce", "write", "load and store"} <= found["seconds_by_stage"].keys()
    assert min(found["seconds_by_stage"].values()) >= 0
    assert found["peak_memory_bytes"] > 1e8


def test_the_exponent_of_a_power_law_is_found():
    assert exponent({10: 3 * 10**0.75, 100: 3 * 100**0.75, 5000: 3 * 5000**0.75}) == pytest.approx(0.75)


def test_points_of_an_interrupted_run_are_kept_for_the_commit_that_they_belong_to(tmp_path, monkeypatch):
    monkeypatch.setattr(scaling, "POINTS", tmp_path / "more" / "points.jsonl")
    assert scaling._kept("one") == {}
    run = {"seconds": 2.5, "measurements": {"shards": 3}}
    scaling._keep("one", Point(4096, 1000), run)
    scaling._keep("two", Point(4096, 2000, workers=2, threads=1), run)
    assert scaling._kept("one") == {Point(4096, 1000): run}
    assert scaling._kept("two") == {Point(4096, 2000, 2, 1): run}


def test_a_series_is_measured_once_and_gives_both_exponents(monkeypatch, tmp_path):
    """Builds that take seconds in proportion to their size, instead of builds."""
    asked = []

    def measured(points):
        asked.extend(points)
        return {
            point: {
                "seconds": point.n_features * point.n_tokens / point.workers,
                "cpu_seconds": point.n_tokens**2,
                "n_tokens": point.n_tokens,
                "measurements": {"shards": 1, "workers": 1, "seconds_by_stage": {}, "peak_memory_bytes": 1},
            }
            for point in points
        }

    monkeypatch.setattr(scaling, "_measured", measured)
    monkeypatch.setattr(scaling, "POINTS", tmp_path / "none")
    sizes = {"features": (10, 20), "tokens": (100, 400), "n_tokens": 100, "n_features": 10}
    of_features, of_tokens, of_workers = scaling.run(**sizes)
    assert len(asked) == len(set(asked)) == 5
    assert (of_features.value, of_tokens.value, of_workers.value) == (1.0, 1.0, 2.0)
    assert of_tokens.details["exponent_of_cpu_seconds"] == 2.0
