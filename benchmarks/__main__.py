"""Run benchmarks: `python -m benchmarks [NAME ...]`, without names all but those that take most of an hour. Prints
their JSON lines and a table of aims, and writes docs/benchmarks.md anew."""

from __future__ import annotations

import importlib
import sys

from transformers.utils import logging

from benchmarks import document
from benchmarks.harness import Result, save

NAMES = (
    "encode_features",
    "live_prompt",
    "build",
    "build_tokens",
    "memory",
    "scaling",
    "kernels",
    "load_dictionary",
    "pages",
    "search",
    "storage",
    "storage_of_build",
    "import_features",
)
# Run where they are named.
LONG = ("build_limit",)


def main(arguments: list[str]) -> int:
    """Run the named benchmark or all; return 2 for a name that there is not."""
    unknown = [name for name in arguments if name not in NAMES + LONG]
    if unknown:
        print(f"There is no benchmark {unknown[0]!r}; there are: {', '.join(NAMES + LONG)}.", file=sys.stderr)
        return 2
    logging.disable_progress_bar()
    results: list[Result] = []
    for name in arguments or NAMES:
        measured = importlib.import_module(f"benchmarks.{name}").run()
        if measured:
            save(measured, name)
        for result in measured:
            print(result.line(), flush=True)
        results += measured
    if results:
        document.write()
    _print_table(results)
    return 0


def _print_table(results: list[Result]) -> None:
    width = max((len(result.name) for result in results), default=0)
    print(file=sys.stderr)
    for result in results:
        verdict = {True: "holds", False: "MISSED", None: "-"}[result.holds]
        print(
            f"{result.name:{width}}  {result.value:>14,.2f} {result.unit:24} {verdict:7} {result.aim}", file=sys.stderr
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
