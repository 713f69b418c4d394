"""Explanations of a dictionary's features in a file, so that they are never all in memory, and may be read again."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence

from features.services.explanations import MethodExplanation
from inference.dashboards.results import ContextTable, DictionaryDashboard
from inference.explanations import explain


class ExplanationFile:
    """What one method says of features, written once; iterate as often as need be."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile("w+", encoding="utf-8", prefix="facet-explanations-")  # noqa: SIM115

    @classmethod
    def of(
        cls, dashboard: DictionaryDashboard, vocabulary: Sequence[str], contexts: ContextTable
    ) -> dict[str, ExplanationFile]:
        """Explain every feature from its evidence; return the explanations by method, without empty ones."""
        methods: dict[str, ExplanationFile] = {}
        for index, explanation in enumerate(explain(dashboard, vocabulary, contexts)):
            if not explanation.text:
                continue
            if explanation.method not in methods:
                methods[explanation.method] = cls()
            methods[explanation.method]._add(index, explanation.text, dict(explanation.evidence))
        return methods

    def __iter__(self) -> Iterator[MethodExplanation]:
        self._file.seek(0)
        for line in self._file:
            yield MethodExplanation(*json.loads(line))

    def _add(self, index: int, text: str, evidence: dict) -> None:
        self._file.write(json.dumps([index, text, evidence]) + "\n")
