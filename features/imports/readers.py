"""Several files at once, in as many processes as compute; `python -m features.imports.readers` is one of them.

Such a process needs neither Django nor torch, and starts in a fifth of a second. It is told of one file after another,
a line of JSON each, and answers each with a line: nothing, or the error that stops it.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from features.imports.finding import InputFile
from features.imports.reading import ShouldStop, read
from features.imports.shards import Shard, finished, origin_of
from inference.dashboards.corpus import Cancelled
from inference.errors import FacetError

# A smaller file is read faster than a process starts.
SMALL_BYTES = 1 << 20
LOOK_SECONDS = 0.5
Tell = Callable[[int], None]
Job = tuple[InputFile, Path]


def read_all(
    files: Sequence[InputFile],
    workdir: Path,
    *,
    n_processes: int,
    tell: Tell = lambda done: None,
    should_stop: ShouldStop = lambda: False,
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
        if shard is None:
            waiting.append(number)
        else:
            shards[number] = shard
    large = sorted((number for number in waiting if sizes[number] > SMALL_BYTES), key=lambda number: -sizes[number])
    readers = _Readers(min(n_processes, len(large)) if n_processes > 1 else 0)
    try:
        readers.give(large, [(file, folder) for file, folder in zip(files, folders, strict=True)])
        # Meanwhile this process reads what is small, and without others everything.
        for number in (number for number in waiting if not readers or number not in set(large)):
            shards[number] = read(files[number], folders[number], should_stop=should_stop)
            tell(sum(sizes[known] for known in shards))
            if should_stop():
                raise Cancelled
        for number in readers.done(should_stop):
            # What it wrote is whole, or it is read here, where it can say why not.
            shards[number] = read(files[number], folders[number], should_stop=should_stop)
            tell(sum(sizes[known] for known in shards))
    finally:
        readers.end()
    return [shards[number] for number in range(len(files))]


class _Readers:
    """Processes that read files."""

    def __init__(self, n: int) -> None:
        self._jobs: Sequence[Job] = ()
        self._waiting: list[int] = []
        self._at_work: dict[int, int] = {}
        root = Path(__file__).resolve().parents[2]
        command = [sys.executable, "-m", "features.imports.readers"]
        self._processes = [
            subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(n)
        ]

    def __bool__(self) -> bool:
        return bool(self._processes)

    def give(self, numbers: Sequence[int], jobs: Sequence[Job]) -> None:
        """Start to read the files of numbers, in that order."""
        self._waiting, self._jobs = list(numbers) if self else [], jobs
        for place in range(len(self._processes)):
            self._next(place)

    def done(self, should_stop: ShouldStop) -> Iterable[int]:
        """Yield the numbers of files as they are read; raise what a reader says, and Cancelled."""
        with selectors.DefaultSelector() as selector:
            for place, process in enumerate(self._processes):
                selector.register(process.stdout, selectors.EVENT_READ, place)
            while self._at_work:
                for key, _ in selector.select(LOOK_SECONDS):
                    number = self._at_work.pop(key.data)
                    said = self._processes[key.data].stdout.readline()
                    if not said:
                        # It was killed: the file is read again by whoever asked.
                        selector.unregister(key.fileobj)
                    elif error := json.loads(said):
                        raise FacetError.from_dict(error)
                    else:
                        self._next(key.data)
                    yield number
                if should_stop():
                    raise Cancelled
        yield from self._waiting

    def end(self) -> None:
        """End all processes, whatever they are at."""
        for process in self._processes:
            process.kill()
            process.communicate()

    def _next(self, place: int) -> None:
        """Give a process that is idle the next file."""
        if not self._waiting:
            return
        number = self._at_work[place] = self._waiting.pop(0)
        file, folder = self._jobs[number]
        job = {"path": str(file.path), "name": file.name, "kind": file.kind, "folder": str(folder)}
        try:
            self._processes[place].stdin.write(json.dumps(job).encode() + b"\n")
            self._processes[place].stdin.flush()
        except BrokenPipeError:
            pass  # its end is seen where its answer is awaited


def main() -> None:
    """Read the files that are asked for, until nothing more is."""
    for line in sys.stdin.buffer:
        job = json.loads(line)
        said: dict[str, object] = {}
        try:
            read(InputFile(path=Path(job["path"]), name=job["name"], kind=job["kind"]), Path(job["folder"]))
        except FacetError as error:
            said = error.as_dict()
        sys.stdout.write(f"{json.dumps(said)}\n")
        sys.stdout.flush()


def available() -> int:
    """Return how many processes may compute at once."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if __name__ == "__main__":
    main()
