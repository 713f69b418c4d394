"""Environments of the packages that tests compare with and benchmarks race, each under `.local/interop/<name>`.

`python -m tests.interop.environments [NAME ...]` installs what `requirements/<name>.txt` names, once: until that file,
the locks or Python change. `oracles` holds the packages that get along with Facet and with one another; it lies on top
of .venv, whose packages it sees. The others pin against each other, and each stands alone.

A package that cannot be had is said and left out: tests that need it are skipped with that reason.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from explorer.local.layout import CHECKOUT

FOLDER = CHECKOUT / ".local" / "interop"
REQUIREMENTS = Path(__file__).parent / "requirements"
NAMES = tuple(sorted(path.stem for path in REQUIREMENTS.glob("*.txt")))
ON_TOP = "oracles"
_ALONE = "# alone"
# For torch's CUDA builds; beside its CPU build they break every import of transformers.
_UNWANTED = ("torchvision", "torchaudio")
_LOCKS = ("requirements.lock", "requirements-dev.lock")
_STAMP = "facet-installed.json"


def main(names: list[str]) -> int:
    """Install environments; report what is missing and carry on."""
    for name in names or NAMES:
        install(name)
        if reason := missing(name):
            _say(reason)
    return 0


def python_of(name: str) -> Path:
    """Return the interpreter of an environment, whether or not it is there."""
    return FOLDER / name / "bin" / "python"


def is_there(name: str) -> bool:
    """Say whether an environment was installed, if not with every package."""
    return (FOLDER / name / _STAMP).exists()


def missing(name: str, package: str | None = None) -> str:
    """Say why an environment, or a package of it, cannot be used; nothing where it can."""
    try:
        absent = json.loads((FOLDER / name / _STAMP).read_text())["absent"]
    except (OSError, ValueError):
        return f"there is no environment .local/interop/{name}: `make interop` installs it"
    wanted = absent if package is None else {key: why for key, why in absent.items() if key.startswith(package)}
    return "; ".join(f"{requirement} could not be installed for {name}: {why}" for requirement, why in wanted.items())


def install(name: str) -> None:
    """Make an environment, anew where what it should hold has changed; keep one that is current and complete."""
    folder = FOLDER / name
    stamp = _stamp_of(name)
    try:
        if json.loads((folder / _STAMP).read_text()) == {"stamp": stamp, "absent": {}}:
            return
    except (OSError, ValueError):
        pass
    _say(f"Installing .local/interop/{name} for comparisons with other packages")
    FOLDER.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    log = FOLDER / f"{name}.log"
    log.unlink(missing_ok=True)
    _run([sys.executable, "-m", "venv", "--without-pip", str(folder)], log)
    options: tuple[str, ...] = ()
    if name == ON_TOP:
        below = sysconfig.get_paths(vars={"base": str(folder), "platbase": str(folder)})["purelib"]
        (Path(below) / "facet_below.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
        options = ("-c", str(CHECKOUT / _LOCKS[0]))
    together, alone = _requirements(name)
    absent = _install(name, together, log, *options) | _install(name, alone, log, "--no-deps")
    _pip(name, log, "uninstall", "--yes", *_UNWANTED)
    (folder / _STAMP).write_text(json.dumps({"stamp": stamp, "absent": absent}))


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _install(name: str, requirements: list[str], log: Path, *options: str) -> dict[str, str]:
    """Install all at once, or else one by one; return those that could not be installed, with pip's reason."""
    if not requirements or not _pip(name, log, "install", *options, *requirements):
        return {}
    return {one: reason for one in requirements if (reason := _pip(name, log, "install", *options, one))}


def _pip(name: str, log: Path, command: str, *arguments: str) -> str:
    """Run pip for an environment; return its last error, or nothing."""
    pip = [sys.executable, "-m", "pip", "--python", str(python_of(name)), "--no-input", "--disable-pip-version-check"]
    return _run([*pip, command, *arguments], log)


def _run(command: list[str], log: Path) -> str:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    with log.open("a") as file:
        file.write(f"$ {' '.join(command)}\n{done.stdout}{done.stderr}\n")
    if done.returncode == 0:
        return ""
    errors = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.startswith("ERROR")]
    return errors[-1] if errors else f"see {log.relative_to(CHECKOUT)}"


def _requirements(name: str) -> tuple[list[str], list[str]]:
    """Return what is installed with all that it needs, and what is installed alone."""
    lines = (REQUIREMENTS / f"{name}.txt").read_text().splitlines()
    lines = [line for line in lines if line and not line.startswith("#")]
    alone = [line.removesuffix(_ALONE).strip() for line in lines if line.endswith(_ALONE)]
    return [line for line in lines if not line.endswith(_ALONE)], alone


def _stamp_of(name: str) -> str:
    digest = hashlib.sha256(f"{sys.version_info[:2]} {sys.prefix}".encode())
    files = [REQUIREMENTS / f"{name}.txt", *(CHECKOUT / lock for lock in _LOCKS if name == ON_TOP)]
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
