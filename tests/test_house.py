"""The house rules that a machine can check: which way imports run, what the web loads, how files look."""

import ast
import importlib.metadata as metadata
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import call_command
from packaging.utils import canonicalize_name

from explorer.local.layout import CHECKOUT
from tests.local.test_install import locked

PACKAGES = ("explorer", "features", "inference", "kernels")
# What each stratum may import of ours. `inference.tasks` and `inference.streams` deliver work and are not of the core.
MAY_IMPORT = {
    "kernels": {"kernels"},
    "inference": {"inference", "kernels"},
    "inference.streams": {"inference"},
    "inference.tasks": {"features", "inference", "kernels"},
    "features": {"features", "inference", "kernels"},
    "features.demo": {"demo", "features", "inference"},
    "features.management": {"features", "inference", "kernels"},
    "explorer": {"explorer", "features", "inference"},
    "demo": {"demo", "inference", "kernels"},
}
# The strata that must import on a machine with torch and without a web framework.
WITHOUT_DJANGO = ("kernels", "inference", "demo")
WEB_FRAMEWORK = {"celery", "django", "ninja", "psycopg", "redis"}
HEAVY = ("torch", "transformers", "triton", "sklearn", "scipy")
OURS = {"benchmarks", "demo", "docs", "tests", *PACKAGES}
# Packages that `make interop` and benchmarks install for themselves.
INTEROP = {
    "circuit_tracer",
    "datasets",
    "dictionary_learning",
    "llamascopium",
    "overcomplete",
    "s3fs",
    "sae_dashboard",
    "sae_lens",
    "sparsify",
    "transformer_lens",
}

# Packages of extras: what needs one says how to install it.
OPTIONAL = {"pyarrow"}

MAX_LINES = 500
TEXT_SUFFIXES = {".py", ".html", ".css", ".js", ".md", ".toml", ".yml", ".yaml", ".lock", ".json", ".svg", ""}
FOREIGN_PATH = re.compile(r"(?<![\w.<}])/(?:home|root|work|Users|opt)/[\w.-]+")
REGISTRY_HOST = re.compile(r"pypi\.org|pythonhosted\.org|download\.pytorch\.org|registry\.npmjs|cdn\.|unpkg\.com")


def stratum_of(module: str) -> str:
    """Return the most particular stratum that a module belongs to."""
    return max((name for name in MAY_IMPORT if module == name or module.startswith(f"{name}.")), key=len)


def modules() -> Iterator[tuple[str, Path]]:
    for package in (*PACKAGES, "demo"):
        for path in sorted((CHECKOUT / package).rglob("*.py")):
            parts = path.relative_to(CHECKOUT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports_of(path: Path) -> Iterator[str]:
    """Yield every module that a file imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module or ""


def tracked_files() -> list[Path]:
    """Return what git holds or would add; without git, what lies in the folders of the house."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        paths = [CHECKOUT / name for name in done.stdout.split("\0") if name]
    else:
        folders = (*OURS, "docs", "templates", "static")
        paths = [*CHECKOUT.glob("*"), *(path for name in folders for path in (CHECKOUT / name).rglob("*"))]
    return [path for path in paths if path.is_file() and "__pycache__" not in path.parts]


def text_files() -> list[Path]:
    return [path for path in tracked_files() if path.suffix in TEXT_SUFFIXES and path.stat().st_size < 2_000_000]


@pytest.mark.parametrize(("module", "path"), [pytest.param(*pair, id=pair[0]) for pair in modules()])
def test_imports_run_one_way(module: str, path: Path) -> None:
    stratum = stratum_of(module)
    for imported in imports_of(path):
        root = imported.partition(".")[0]
        if root in OURS:
            assert root in MAY_IMPORT[stratum], f"{module} ({stratum}) imports {imported}"
        if stratum in WITHOUT_DJANGO:
            assert root not in WEB_FRAMEWORK, f"{module} imports {imported}: {stratum} works without it"
        if stratum in ("explorer", "features") and not module.startswith("explorer.local"):
            assert not imported.startswith("inference.tasks"), f"{module} imports tasks: send them by name"


@pytest.mark.parametrize("package", sorted(OURS))
def test_every_package_that_is_imported_is_locked(package: str) -> None:
    providers = metadata.packages_distributions()
    versions = locked("requirements.lock", *(["requirements-dev.lock"] if package in ("tests", "docs") else []))
    for path in sorted((CHECKOUT / package).rglob("*.py")):
        for root in {imported.partition(".")[0] for imported in imports_of(path)}:
            if root in sys.stdlib_module_names or root in OURS | INTEROP | OPTIONAL:
                continue
            names = {canonicalize_name(name) for name in providers.get(root, ())}
            assert names & set(versions), f"{path.relative_to(CHECKOUT)} imports {root}, which no lock has"


WEB_PROCESS = """
import sys
import explorer.asgi
from django.test import Client
client = Client(raise_request_exception=True)
for address in ("/", "/prompt", "/steer", "/search", "/search?q=import", "/lists", "/runs", "/patterns/", "/nowhere",
                "/api/v1/openapi.json", "/api/v1/runs"):
    status = client.get(address, headers={"host": "localhost"}).status_code
    assert status in (200, 404), (address, status)
print(*[name for name in sys.argv[1:] if name in sys.modules])
"""


def test_the_web_process_never_imports_torch(process_env: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WEB_PROCESS, *HEAVY], cwd=CHECKOUT, env=process_env, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


@pytest.mark.parametrize("package", WITHOUT_DJANGO)
def test_the_core_imports_without_a_web_framework(package: str) -> None:
    ours = [m for m, _ in modules() if stratum_of(m) == package and not m.endswith("__main__")]
    refuse = f"import sys; sys.modules.update(dict.fromkeys({sorted(WEB_FRAMEWORK)!r}))\n"
    if package == "kernels":
        ours = [module for module in ours if not module.endswith("triton")]  # compiles only where Triton is
    code = refuse + "\n".join(f"import {module}" for module in ours)
    done = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_migrations_are_current(db: None) -> None:
    call_command("makemigrations", check_changes=True, dry_run=True, verbosity=0)


def test_no_file_is_long() -> None:
    long = {
        str(path.relative_to(CHECKOUT)): count
        for path in text_files()
        if path.suffix in {".py", ".html", ".css", ".js"}
        and "migrations" not in path.parts  # written by Django
        and (count := path.read_text(errors="replace").count("\n")) > MAX_LINES
    }
    assert long == {}


def test_no_file_names_a_place_of_one_machine() -> None:
    found = [
        f"{path.relative_to(CHECKOUT)}:{number}: {match.group()}"
        for path in text_files()
        if path != Path(__file__) and path.suffix != ".json"
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        for pattern in (FOREIGN_PATH, REGISTRY_HOST)
        if (match := pattern.search(line))
    ]
    assert found == []


def test_no_file_is_a_drawer_for_everything() -> None:
    assert [path for path in tracked_files() if path.name in ("utils.py", "helpers.py", "misc.py")] == []


def test_nothing_is_left_to_do_later() -> None:
    words = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b")
    found = [path for path in text_files() if path != Path(__file__) and words.search(path.read_text(errors="replace"))]
    assert found == []


def test_the_front_door_prints_itself() -> None:
    done = subprocess.run(["make"], cwd=CHECKOUT, capture_output=True, text=True, check=True, env={**os.environ})
    for target in ("setup", "demo", "up", "test", "check", "bench"):
        assert re.search(rf"make {target} ", done.stdout), done.stdout
