"""Write the locks from the environment that runs this: `make lock`, after a package was added or upgraded.

A lock is plain `name==version` lines, without index or hash, so that one file serves CPU and CUDA builds of torch and
any mirror. It holds exactly what the sets of pyproject.toml need, directly or not.
"""

import importlib.metadata as metadata
import sys
import tomllib
from collections.abc import Iterable

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from explorer.local.layout import CHECKOUT

HEADER = "# Made by `make lock` from pyproject.toml and the environment of a developer: do not edit.\n"
# What the environment of one developer cannot tell: name, version, and where it is needed.
ELSEWHERE = {
    # torch's CUDA builds require this very Triton, its CPU builds none: another version would fit only the latter.
    "triton": ("3.7.1", "sys_platform == 'linux'"),
    # redis on the first releases of Python 3.11.
    "async-timeout": ("5.0.1", "python_full_version < '3.11.3'"),
}


def main() -> None:
    """Write requirements.lock and requirements-dev.lock."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    run = closure([*project["dependencies"], *project["optional-dependencies"]["embedded"]])
    dev = closure([*project["optional-dependencies"]["dev"], *project["optional-dependencies"]["parquet"]])
    run |= set(ELSEWHERE)
    write("requirements.lock", run)
    write("requirements-dev.lock", dev - run)


def closure(requirements: Iterable[str]) -> set[str]:
    """Return the canonical names of the packages that the requirements need here, directly or not."""
    names: set[str] = set()
    seen: set[tuple[str, frozenset[str]]] = set()
    queue = [Requirement(text) for text in requirements]
    while queue:
        requirement = queue.pop()
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        names.add(name)
        for text in metadata.requires(name) or ():
            needed = Requirement(text)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in {"", *extras}):
                queue.append(needed)
    return names


def write(file: str, names: set[str]) -> None:
    """Write one lock, sorted, without local version labels such as `+cpu`."""
    lines = []
    for name in sorted(names):
        version, marker = ELSEWHERE.get(name) or (metadata.version(name).split("+")[0], "")
        lines.append(f"{name}=={version}{f'; {marker}' if marker else ''}\n")
    (CHECKOUT / file).write_text(HEADER + "".join(lines))
    print(f"{file}: {len(lines)} packages", file=sys.stderr)


if __name__ == "__main__":
    main()
