"""Setting up from nothing: each failure has a cause and a remedy, and a finished set-up is not repeated."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from explorer.local import install, lock
from explorer.local.layout import CHECKOUT


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with nothing but the installer and locks that need nothing."""
    script = tmp_path / "explorer" / "local" / "install.py"
    script.parent.mkdir(parents=True)
    shutil.copy(CHECKOUT / "explorer" / "local" / "install.py", script)
    for name in ("requirements.lock", "requirements-dev.lock"):
        (tmp_path / name).write_text("# nothing\n")
    return tmp_path


def run(checkout: Path, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", checkout / "explorer" / "local" / "install.py", "dev"]
    return subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, check=False)


def test_second_setup_does_nothing(checkout: Path) -> None:
    first = run(checkout)
    assert first.returncode == 0, first.stderr
    assert (checkout / ".venv" / "bin" / "python").exists()
    second = run(checkout)
    assert (second.returncode, second.stdout) == (0, "")


def test_missing_network_is_named(checkout: Path) -> None:
    (checkout / "requirements.lock").write_text("facet-needs-this==1.0\n")
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_CONFIG_FILE": os.devnull, "PIP_RETRIES": "1"}
    done = run(checkout, **nowhere, PIP_EXTRA_INDEX_URL="", PIP_FIND_LINKS="")
    assert done.returncode == 1
    assert "The package index cannot be reached." in done.stderr
    assert "Remedy:" in done.stderr
    (checkout / "requirements.lock").write_text("# nothing\n")
    assert run(checkout).returncode == 0


def test_old_python_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 2, "final", 0))
    with pytest.raises(SystemExit):
        install.main()
    assert "needs Python 3.11 or later" in capsys.readouterr().err


def locked(*names: str) -> dict[str, str]:
    lines = [line.split(";")[0].strip() for name in names for line in (CHECKOUT / name).read_text().splitlines()]
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def project_sets() -> tuple[list[str], list[str]]:
    """Return what pyproject.toml requires to run, and to develop."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    return [*project["dependencies"], *extras["embedded"]], extras["dev"]


def test_locks_satisfy_the_project() -> None:
    to_run, to_develop = project_sets()
    every = locked("requirements.lock", "requirements-dev.lock")
    for texts, versions in ((to_run, locked("requirements.lock")), (to_develop, every)):
        for requirement in map(Requirement, texts):
            name = canonicalize_name(requirement.name)
            assert name in versions, f"{name} is not locked: run `make lock`"
            assert requirement.specifier.contains(versions[name]), f"{name} {versions[name]}: run `make lock`"


def test_locks_are_complete() -> None:
    to_run, to_develop = project_sets()
    assert lock.closure(to_run) <= set(locked("requirements.lock"))
    assert lock.closure(to_develop) <= set(locked("requirements.lock", "requirements-dev.lock"))
