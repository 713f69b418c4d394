"""Evidence about a feature, counted from its dashboard: tokens, their surroundings, lines, words, promoted tokens.

Tokens count as the same word whatever the space before them. Shares of tokens are shares of activation mass over the
whole pass; shares of surroundings are over the recorded examples, weighted by the height of their peaks.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from inference.dashboards.results import ContextTable, DictionaryDashboard

# Words that stand in at least this share of a feature's strongest contexts, and how much more often than elsewhere.
_NEAR_SHARE, _NEAR_LIFT = 0.5, 4.0
_NEAR_TOKENS = 16
_KEPT = 5
_WORD = re.compile(r"[^\W\d_]{3,}")
_LINE_WORD = re.compile(r"\w+|[^\w\s]+")
WINDOW_START = "⟨start⟩"

Shares = tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What was counted for one feature: pairs of text and share, the largest first."""

    n_tokens: int
    firing_count: int
    n_examples: int
    token_entropy: float
    tokens: Shares = ()
    left: Shares = ()
    next: Shares = ()
    line: Shares = ()
    near: Shares = ()
    promoted: tuple[str, ...] = ()
    suppressed: tuple[str, ...] = ()
    promoted_next: float = 0.0
    line_start: float = 0.0
    window_start: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form, with the few largest shares of each kind."""
        values = asdict(self)
        for name in ("tokens", "left", "next", "line", "near"):
            values[name] = [[text, round(share, 3)] for text, share in values[name][:_KEPT]]
        for name in ("promoted", "suppressed"):
            values[name] = list(values[name][:_KEPT])
        for name in ("token_entropy", "promoted_next", "line_start", "window_start"):
            values[name] = round(values[name], 3)
        return values


class EvidenceReader:
    """Reads the evidence of one feature after another off a dashboard."""

    def __init__(self, dashboard: DictionaryDashboard, vocabulary: Sequence[str], contexts: ContextTable) -> None:
        self.dashboard, self.contexts = dashboard, contexts
        self.words = [word_of(text) for text in vocabulary]
        examples = dashboard.examples
        self._token_x = contexts.indptr_c[examples.context_x] + examples.peak_position_x
        self._context_share = _context_shares(contexts)

    def read(self, feature: int) -> Evidence:
        """Return the evidence about a feature."""
        board, examples = self.dashboard, self.dashboard.examples
        rows = [row for row in examples.of_feature(feature) if examples.group_x[row] <= 5]
        common = {
            "n_tokens": board.n_tokens,
            "firing_count": int(board.firing_count_f[feature]),
            "n_examples": len(rows),
            "token_entropy": float(board.token_entropy_f[feature]),
            "promoted": self._texts(board.promoted_ids_fk[feature]),
            "suppressed": self._texts(board.suppressed_ids_fk[feature]),
        }
        if not rows:
            return Evidence(**common)
        return Evidence(**common, **self._surroundings(rows), **self._tokens(feature), **self._near(rows))

    def _texts(self, ids: Iterable[int]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.words[token_id] for token_id in ids if token_id >= 0 and self.words[token_id]))

    def _tokens(self, feature: int) -> dict[str, Shares]:
        board, shares = self.dashboard, defaultdict(float)
        pairs = zip(board.peak_token_ids_fk[feature], board.peak_token_shares_fk[feature], strict=True)
        for token_id, share in pairs:
            if token_id >= 0:
                shares[self.words[token_id]] += float(share)
        return {"tokens": _largest(shares)}

    def _surroundings(self, rows: list[int]) -> dict[str, Any]:
        examples, contexts = self.dashboard.examples, self.contexts
        left, following, line = defaultdict(float), defaultdict(float), defaultdict(float)
        total = promoted_next = line_start = window_start = 0.0
        promoted = set(self._texts(self.dashboard.promoted_ids_fk[examples.feature_x[rows[0]]]))
        for row in rows:
            weight = float(examples.peak_value_x[row])
            total += weight
            token, context = int(self._token_x[row]), int(examples.context_x[row])
            first, stop = contexts.indptr_c[context] + contexts.has_bos, contexts.indptr_c[context + 1]
            left[self._word_at(token - 1) if token > first else WINDOW_START] += weight
            window_start += weight * (token == first)
            if token + 1 < stop:
                word = self._word_at(token + 1)
                following[word] += weight
                promoted_next += weight * (word in promoted)
            prefix = contexts.text[context][: int(contexts.starts_t[token])].rpartition("\n")[2]
            word = self._word_at(token)
            line_start += weight * (not prefix.strip() and not is_blank(word))
            if opening := _LINE_WORD.match(prefix.lstrip()):
                line[opening.group()] += weight
        total = max(total, 1e-30)
        return {
            "left": _largest(left, total),
            "next": _largest(following, total),
            "line": _largest(line, total),
            "promoted_next": promoted_next / total,
            "line_start": line_start / total,
            "window_start": window_start / total,
        }

    def _near(self, rows: list[int]) -> dict[str, Shares]:
        """Return words that stand near most of the strongest peaks and seldom elsewhere."""
        examples, contexts = self.dashboard.examples, self.contexts
        strongest = [row for row in rows if examples.group_x[row] == 0]
        found: Counter[str] = Counter()
        for row in strongest:
            token, context = int(self._token_x[row]), int(examples.context_x[row])
            first = max(token - _NEAR_TOKENS, int(contexts.indptr_c[context]))
            last = min(token + _NEAR_TOKENS, int(contexts.indptr_c[context + 1]) - 1)
            text = contexts.text[context][int(contexts.starts_t[first]) : int(contexts.ends_t[last])]
            found.update(_words(text))
        shares = {}
        for word, count in found.items():
            share = count / len(strongest)
            if count >= 3 and share >= _NEAR_SHARE and share >= _NEAR_LIFT * self._context_share.get(word, 0.0):
                shares[word] = share
        return {"near": _largest(shares)}

    def _word_at(self, token: int) -> str:
        return self.words[self.contexts.token_ids_t[token]]


def word_of(text: str) -> str:
    """Return a token's text without the space around it; what is nothing but space stays as it is."""
    return text.strip() or text


def is_blank(word: str) -> bool:
    return not word.strip()


def _words(text: str) -> set[str]:
    return {word.casefold() for word in _WORD.findall(text)}


def _context_shares(contexts: ContextTable) -> dict[str, float]:
    """Return the share of contexts in which each word stands."""
    counts: Counter[str] = Counter()
    for text in contexts.text:
        counts.update(_words(text))
    return {word: count / len(contexts) for word, count in counts.items()}


def _largest(weights: dict[str, float], total: float = 1.0) -> Shares:
    """Return shares from the largest on, equal ones by text."""
    pairs = sorted(weights.items(), key=lambda pair: (-pair[1], pair[0]))
    return tuple((text, weight / total) for text, weight in pairs[:16])
