"""What was found where documents were looked for, and is none."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

SHOWN = 50


@dataclass(slots=True)
class Skips:
    """Counts by reason, and the first few by name."""

    counts: Counter[str] = field(default_factory=Counter)
    first: list[dict[str, str]] = field(default_factory=list)

    def add(self, name: str, reason: str) -> None:
        self.counts[reason] += 1
        if len(self.first) < SHOWN:
            self.first.append({"name": name, "reason": reason})

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form; nothing where nothing was skipped."""
        return {"counts": dict(self.counts), "first": self.first} if self.counts else {}

    def __str__(self) -> str:
        return ", ".join(f"{count:,} {reason}" for reason, count in self.counts.most_common())
