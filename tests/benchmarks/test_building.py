"""A measured build is a build: with servers, a worker and what its stages took."""

import pytest

from benchmarks.build import stages
from benchmarks.building import Build
from benchmarks.scaling import exponent
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
