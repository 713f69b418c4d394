"""A short statement about every feature without any language model's help.

Method `token-context-logit`: what a feature says is read off its own evidence, which is which tokens carry its
activation, what stands before and after its peaks, which lines and words they stand among, and which tokens its
direction promotes. The pattern that the evidence concentrates on most is named, with its measured share as evidence;
the same dashboard always gives the same words. Imports neither torch nor Django.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from inference.dashboards.results import ContextTable, DictionaryDashboard
from inference.explanations.evidence import EvidenceReader
from inference.explanations.patterns import at_its_strongest, describe, is_loose

__all__ = ["METHOD", "KeylessExplanation", "explain"]

METHOD = "token-context-logit"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeylessExplanation:
    """A statement about one feature, shorter than 80 characters, with JSON-ready evidence."""

    text: str
    method: str = METHOD
    evidence: Mapping[str, Any] = field(default_factory=dict)


def explain(
    dashboard: DictionaryDashboard, vocabulary: Sequence[str], contexts: ContextTable
) -> Iterator[KeylessExplanation]:
    """Yield one explanation per feature, in the order of features; those that never fire say so."""
    reader = EvidenceReader(dashboard, vocabulary, contexts)
    for feature in range(dashboard.n_features):
        yield _explained(reader, feature)


def _explained(reader: EvidenceReader, feature: int) -> KeylessExplanation:
    evidence = reader.read(feature)
    text, pattern = describe(evidence)
    counted = evidence.as_dict()
    if is_loose(pattern):
        strongest = reader.read_strongest(feature)
        closer_text, closer_pattern = describe(strongest)
        if not is_loose(closer_pattern):
            text, pattern = at_its_strongest(closer_text), f"strongest {closer_pattern}"
            counted["strongest"] = strongest.as_dict()
    return KeylessExplanation(text=text, evidence={"pattern": pattern, **counted})
