"""Results have the shape that documents quote, and what is unknown is said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from benchmarks import __main__ as command
from benchmarks import harness
from benchmarks.harness import Result
from explorer.local.layout import CHECKOUT

# The keys that every line has, in the design's order of importance.
KEYS = {"name", "value", "unit", "aim", "holds", "peer", "peer_value", "machine", "versions", "n"}


def result(**changes):
    values = {
        "name": "x",
        "value": 2.0,
        "unit": "s",
        "aim": "3",
        "holds": True,
        "peer": "none",
        "peer_value": None,
        "n": 1,
    }
    return Result(**values | changes)


def test_line_has_every_key_of_the_design():
    assert set(json.loads(result().line())) == KEYS | {"details"}


def test_saved_results_are_one_line_each(tmp_path, monkeypatch):
    monkeypatch.setattr(harness, "RESULTS", tmp_path / "results")
    path = harness.save([result(), result(name="y")], "both")
    assert path.name == "both.json"
    assert [json.loads(line)["name"] for line in path.read_text().splitlines()] == ["x", "y"]


def test_sides_take_turns():
    order = []
    seconds = harness.take_turns(
        {"slow": lambda: (order.append("slow"), time.sleep(0.02)), "quick": lambda: order.append("quick")}, rounds=3
    )
    assert order == ["slow", "quick"] * 5
    assert seconds["slow"] > 0.019 > seconds["quick"]


def test_unknown_name_is_refused_with_those_that_there_are(capsys):
    assert command.main(["nope"]) == 2
    assert "build" in capsys.readouterr().err


def test_missed_aim_is_printed_as_such(capsys):
    command._print_table([result(), result(holds=False), result(holds=None)])
    assert [word in capsys.readouterr().err for word in ("MISSED",)] == [True]


@pytest.mark.parametrize("name", command.NAMES)
def test_every_benchmark_has_a_module_that_says_what_it_measures(name):
    module = __import__(f"benchmarks.{name}", fromlist=["run"])
    assert module.__doc__
    assert callable(module.run)


def test_without_a_database_its_benchmarks_say_how_to_start_one_and_overwrite_nothing(tmp_path):
    before = {path.name: path.read_bytes() for path in harness.RESULTS.iterdir()}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "pages", "storage_of_build"],
        cwd=CHECKOUT,
        env=os.environ | {"DATABASE_URL": f"postgresql://facet@/facet?host={tmp_path}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert done.stderr.count("make up") == 2
    assert {path.name: path.read_bytes() for path in harness.RESULTS.iterdir()} == before
