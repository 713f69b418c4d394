"""The oracles' items report what happened in their own environment, and say why where it is missing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from explorer.local.layout import CHECKOUT
from tests.interop import environments

TESTS = """
import os, sys
import pytest

@pytest.fixture
def broken():
    raise RuntimeError("a fixture that breaks")

@pytest.mark.interop
def test_there():
    import sae_lens
    assert "oracles" in sys.prefix

@pytest.mark.interop
def test_fails():
    assert 1 + 1 == 3

@pytest.mark.interop
def test_breaks(broken):
    pass

@pytest.mark.interop
def test_skips():
    pytest.importorskip("no_such_package")

@pytest.fixture(scope="module")
def shared():
    yield

def test_here(shared):
    assert "oracles" not in sys.prefix

@pytest.mark.interop
def test_dies():
    os._exit(3)

@pytest.mark.interop
def test_behind_the_dead():
    pass
"""


def run(folder: Path, *arguments: str) -> str:
    """Return what pytest says of TESTS, run in a process of its own."""
    (folder / "test_it.py").write_text(TESTS)
    (folder / "test_next.py").write_text("def test_in_another_module():\n    pass\n")
    (folder / "conftest.py").write_text('pytest_plugins = ("tests.interop.forwarding",)\n')
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = interop: compares\naddopts = -p no:django\n")
    command = [sys.executable, "-m", "pytest", "-v", "-ra", "-p", "no:valkey", *arguments]
    env = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_items_report_what_happened_elsewhere(tmp_path: Path) -> None:
    if not environments.is_there("oracles"):
        pytest.skip(environments.missing("oracles"))
    said = run(tmp_path)
    for name, outcome in {
        "there": "PASSED",
        "fails": "FAILED",
        "breaks": "ERROR",
        "skips": "SKIPPED",
        "here": "PASSED",
        "dies": "FAILED",
        "behind_the_dead": "FAILED",
    }.items():
        assert f"test_it.py::test_{name} {outcome}" in said, said
    assert "assert (1 + 1) == 3" in said
    assert "a fixture that breaks" in said
    assert "could not import 'no_such_package'" in said
    assert "ended without a report of this test" in said
    assert "3 failed, 3 passed, 1 skipped, 1 error" in said


def test_only_what_was_chosen_runs_elsewhere(tmp_path: Path) -> None:
    if not environments.is_there("oracles"):
        pytest.skip(environments.missing("oracles"))
    assert "1 passed, 7 deselected" in run(tmp_path, "-k", "there")
    assert "2 passed, 6 deselected" in run(tmp_path, "-m", "not interop")


def test_a_package_that_cannot_be_had_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "FOLDER", tmp_path / "interop")
    monkeypatch.setattr(environments, "REQUIREMENTS", tmp_path)
    monkeypatch.setattr(environments, "CHECKOUT", tmp_path)
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "made.txt").write_text("facet-needs-this==1.0\nfacet-wants-this==1.0  # alone\n")
    assert "make interop" in environments.missing("made")
    environments.install("made")
    assert environments.is_there("made")
    assert environments.python_of("made").exists()
    assert "facet-needs-this==1.0 could not be installed for made: No matching" in environments.missing("made")
    assert "facet-wants-this" not in environments.missing("made", "facet-needs-this")
    assert "facet-wants-this" in environments.missing("made", "facet-wants-this")


def test_an_environment_is_made_anew_when_it_should_hold_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "FOLDER", tmp_path / "interop")
    monkeypatch.setattr(environments, "REQUIREMENTS", tmp_path)
    (tmp_path / "made.txt").write_text("# nothing\n")
    environments.install("made")
    assert environments.missing("made") == ""
    mine = tmp_path / "interop" / "made" / "mine"
    mine.touch()
    environments.install("made")
    assert mine.exists()
    (tmp_path / "made.txt").write_text("# nothing else\n")
    environments.install("made")
    assert not mine.exists()
    assert environments.is_there("made")
