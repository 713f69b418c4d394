"""Several files at once, each in a process of its own; `python -m features.imports.readers` is one of them.

Such a process needs neither Django nor torch, and starts in a fifth of a second.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from features.imports.finding import InputFile
from features.imports.reading import read
from features.imports.shards import Shard, finished, origin_of
from inference.dashboards.corpus import Cancelled
from inference.errors import FacetError

# A smaller file is read faster than a process starts.
SMALL_BYTES = 1 << 20
LOOK_SECONDS = 0.02
Tell = Callable[[int], None]


def read_all(
    files: Sequence[InputFile],
    workdir: Path,
    *,
    n_processes: int,
    tell: Tell = lambda done: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[Shard]:
    """Return the shards of files in their order; `tell` is told how many bytes of the files are done.

    Raises BadFile for the first file that cannot be read, and Cancelled.
    """
    folders = [workdir / f"shard-{number:05}" for number in range(len(files))]
    sizes = [file.path.stat().st_size for file in files]
    shards: dict[int, Shard] = {}
    waiting: list[int] = []
    for number, file in enumerate(files):
        shard = finished(folders[number], origin=origin_of(file.path, file.name))
        if shard is not None:
            shards[number] = shard
        elif n_processes > 1 and sizes[number] > SMALL_BYTES:
            waiting.append(number)
        else:
            shards[number] = read(file, folders[number], should_stop=should_stop)
        tell(sum(sizes[known] for known in shards))
        if should_stop():
            raise Cancelled
    running: dict[int, subprocess.Popen[str]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < n_processes:
                number = waiting.pop(0)
                running[number] = _start(files[number], folders[number])
            for number in [number for number, process in running.items() if process.poll() is not None]:
                _check(running.pop(number))
                # What it wrote is whole, or it is read here, where it can say why not.
                shards[number] = read(files[number], folders[number], should_stop=should_stop)
                tell(sum(sizes[known] for known in shards))
            if should_stop():
                raise Cancelled
            time.sleep(LOOK_SECONDS)
    finally:
        for process in running.values():
            process.kill()
            process.communicate()
    return [shards[number] for number in range(len(files))]


def _start(file: InputFile, folder: Path) -> subprocess.Popen[str]:
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "features.imports.readers", str(file.path), file.name, file.kind, str(folder)]
    return subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True)


def _check(process: subprocess.Popen[str]) -> None:
    """Raise the error with which a process ended, if it says one."""
    said, _ = process.communicate()
    if process.returncode and said.strip():
        raise FacetError.from_dict(json.loads(said))


def main(path: str, name: str, kind: str, folder: str) -> int:
    """Read one file; print the error that stops it."""
    try:
        read(InputFile(path=Path(path), name=name, kind=kind), Path(folder))
    except FacetError as error:
        sys.stdout.write(json.dumps(error.as_dict()))
        return 1
    return 0


def available() -> int:
    """Return how many processes may compute at once."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
