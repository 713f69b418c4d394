"""What an import stores as explanations, and what it tells of itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from features.imports.explanation_lines import PREFIX
from features.imports.lines import BadFile
from features.imports.shards import Counts, Shard
from features.services.explanations import MethodExplanation

# The names of features that somebody uploaded as vectors.
LABELS = f"{PREFIX}/vector label"


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodRows:
    """The explanations of one method, read from the shards whenever they are asked for.

    A method explains a feature once: of several different texts the `nth` belongs to the method `NAME#nth`.
    """

    shards: Sequence[Shard]
    method: str
    nth: int

    def __iter__(self) -> Iterator[MethodExplanation]:
        for method, index, text, evidence, nth in numbered(self.shards):
            if method == self.method and nth == self.nth:
                yield MethodExplanation(index, text, evidence)

    @classmethod
    def of_all(cls, shards: Sequence[Shard], counts: Counts, n_features: int) -> dict[str, MethodRows]:
        """Return the rows of every method; raise BadFile for an explanation of a feature that there is not."""
        most: Counter[str] = Counter()
        n_rows = 0
        for method, index, _, _, nth in numbered(shards):
            if index >= n_features:
                raise BadFile(
                    f"An explanation is of feature {index:,}, and there are {n_features:,}.",
                    "These files do not belong together. Fetch them again.",
                )
            most[method] = max(most[method], nth)
            n_rows += 1
        kept = counts.rows["explanations"] + counts.rows["labels"] - counts.left_out["explanations without text"]
        counts.duplicates["explanations"] += kept - n_rows
        return {
            method if nth == 1 else f"{method[:75]}#{nth}": cls(shards=shards, method=method, nth=nth)
            for method, n in sorted(most.items())
            for nth in range(1, n + 1)
        }


def numbered(shards: Sequence[Shard]) -> Iterator[tuple[str, int, str, dict[str, Any], int]]:
    """Yield explanations with their number among the different ones of the same method and feature."""
    seen: dict[tuple[str, int], list[int]] = {}
    for shard in shards:
        for method, index, text, evidence in _explanations(shard):
            texts = seen.setdefault((method, index), [])
            if hash(text) not in texts:
                texts.append(hash(text))
                yield method, index, text, evidence, len(texts)


def _explanations(shard: Shard) -> Iterator[tuple[str, int, str, dict[str, Any]]]:
    if "methods" in shard.facts:
        yield from shard.lines("explanations")
    if "labels" in shard.facts:
        for index, text in shard.lines("labels"):
            yield LABELS, index, text, {"imported_from": "Neuronpedia", "key": "vectorLabel"}


def report(result: Mapping[str, Any], counts: Counts) -> Iterator[str]:
    """Yield the lines of a run's log about one source."""
    yield (
        f"{result['link']}: {result['features']:,} of {result['of_features']:,} features,"
        f" {result['examples']:,} examples in {result['contexts']:,} contexts, {result['explanations']:,} explanations."
    )
    missing = result["of_features"] - result["features"]
    if missing:
        yield f"The files leave {missing:,} features out; {result['skipped']:,} of them on purpose."
    for title, counter in (("Duplicates, of which the first counts", counts.duplicates),
                           ("Keys that nothing is known of", counts.unknown_keys),
                           ("Not kept", counts.left_out)):  # fmt: skip
        if entries := [f"{name} ({number:,})" for name, number in sorted(counter.items()) if number]:
            yield f"{title}: {', '.join(entries[:40])}."
    if result["n_unknown_tokens"]:
        shown = ", ".join(map(repr, result["unknown_tokens"][:8]))
        yield (
            f"{result['n_unknown_tokens']:,} strings are not tokens of the model, such as {shown}: their text is kept,"
            " and searches find them by the token with which they begin."
        )
    if not result["n_tokens"]:
        yield "Nothing says how many tokens were read, so densities are not known."
