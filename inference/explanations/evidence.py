"""Evidence about a feature, counted from its dashboard: tokens, their surroundings, lines, words, promoted tokens.

Tokens count as the same word whatever the space before them. Shares of tokens are shares of activation mass over the
whole pass; shares of surroundings are over the recorded examples, weighted by their activation at the peak, or in
bands at the sampled token.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from inference.dashboards.results import ContextTable, DictionaryDashboard

# Words that stand in at least this share of a feature's strongest contexts, and how much more often than elsewhere.
_NEAR_SHARE, _NEAR_LIFT = 0.5, 4.0
_NEAR_TOKENS = 16
# Examples that are looked up together, and contexts in which words are counted: as many as a sample needs.
_LOOKED_UP_AT_ONCE = 50_000
_COUNTED_CONTEXTS = 100_000
_KEPT = 5
_WORD = re.compile(r"[^\W\d_]{3,}")
_LINE_WORD = re.compile(r"\w+|[^\w\s]+")
WINDOW_START = "⟨start⟩"

Shares = tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What was counted for one feature: pairs of text and share, the largest first.

    `tokens` are by activation mass; `peaks`, `left` and `next` are the tokens at, before and after the peaks of
    examples, `says` those of `next` that the feature promotes, and `line` the words that open their lines. `near` are
    words that stand near most of the strongest peaks and seldom elsewhere, `earlier` those that stand anywhere before.
    """

    n_tokens: int
    firing_count: int
    n_examples: int
    token_entropy: float
    tokens: Shares = ()
    peaks: Shares = ()
    left: Shares = ()
    next: Shares = ()
    line: Shares = ()
    near: Shares = ()
    earlier: Shares = ()
    promoted: tuple[str, ...] = ()
    suppressed: tuple[str, ...] = ()
    says: Shares = ()
    inside_word: float = 0.0
    line_start: float = 0.0
    window_start: float = 0.0
    # Where in their windows four fifths of the strongest peaks are, and how wide a window is, in tokens.
    first_position: int = 0
    last_position: int = 0
    window: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form, with the few largest shares of each kind."""
        counts = ("n_tokens", "firing_count", "n_examples", "first_position", "last_position", "window")
        numbers = ("token_entropy", "inside_word", "line_start", "window_start")
        shares = ("tokens", "peaks", "left", "next", "line", "near", "earlier", "says")
        return {
            **{name: getattr(self, name) for name in counts},
            **{name: round(getattr(self, name), 3) for name in numbers},
            **{name: [[text, round(share, 3)] for text, share in getattr(self, name)[:_KEPT]] for name in shares},
            **{name: list(getattr(self, name)[:_KEPT]) for name in ("promoted", "suppressed")},
        }


class EvidenceReader:
    """Reads the evidence of one feature after another off a dashboard."""

    def __init__(self, dashboard: DictionaryDashboard, vocabulary: Sequence[str], contexts: ContextTable) -> None:
        self.dashboard, self.contexts = dashboard, contexts
        self.words = [word_of(text) for text in vocabulary]
        # Those of the features from the first on; looked up for some at once, since one by one takes most of the time.
        self._examples: list[_Example] = []
        self._first_row = 0
        self._context_share = _context_shares(contexts)
        self._window = int(np.diff(contexts.indptr_c).max())

    def read(self, feature: int) -> Evidence:
        """Return the evidence about a feature, from all that is recorded of it."""
        rows = [row for row in self._examples_of(feature) if row.group <= 5]
        return self._evidence(feature, rows, self._tokens(feature))

    def read_strongest(self, feature: int) -> Evidence:
        """Return the evidence of the strongest contexts alone, where `tokens` are those that peak in them."""
        rows = [row for row in self._examples_of(feature) if row.group == 0]
        peaks: dict[str, float] = defaultdict(float)
        for row in rows:
            peaks[self.words[row.token_id]] += row.value
        return self._evidence(feature, rows, _largest(peaks, sum(peaks.values())))

    def _examples_of(self, feature: int) -> list[_Example]:
        rows = self.dashboard.examples.of_feature(feature)
        if not self._first_row <= rows.start <= rows.stop <= self._first_row + len(self._examples):
            self._first_row = rows.start
            stop = min(len(self.dashboard.examples), rows.start + max(len(rows), _LOOKED_UP_AT_ONCE))
            self._examples = _columns(self.dashboard, self.contexts, slice(rows.start, stop))
        return self._examples[rows.start - self._first_row : rows.stop - self._first_row]

    def _evidence(self, feature: int, rows: list[_Example], tokens: Shares) -> Evidence:
        board = self.dashboard
        promoted = self._texts(board.promoted_ids_fk[feature])
        common = {
            "n_tokens": board.n_tokens,
            "firing_count": int(board.firing_count_f[feature]),
            "n_examples": len(rows),
            "token_entropy": float(board.token_entropy_f[feature]),
            "promoted": promoted,
            "suppressed": self._texts(board.suppressed_ids_fk[feature]),
        }
        if not rows:
            return Evidence(**common)
        return Evidence(**common, tokens=tokens, **self._surroundings(rows, promoted), **self._words_around(rows))

    def _texts(self, ids: np.ndarray) -> tuple[str, ...]:
        words = (self.words[token_id] for token_id in ids.tolist() if token_id >= 0)
        return tuple(dict.fromkeys(word for word in words if word))

    def _tokens(self, feature: int) -> Shares:
        board, shares = self.dashboard, defaultdict(float)
        pairs = zip(board.peak_token_ids_fk[feature], board.peak_token_shares_fk[feature], strict=True)
        for token_id, share in pairs:
            if token_id >= 0:
                shares[self.words[token_id]] += float(share)
        return _largest(shares)

    def _surroundings(self, rows: list[_Example], promoted: tuple[str, ...]) -> dict[str, Any]:
        peaks, left, following, line = (defaultdict(float) for _ in range(4))
        total = inside_word = line_start = window_start = 0.0
        for row in rows:
            weight, start, text = row.value, row.start, self.contexts.text[row.context]
            word = self.words[row.token_id]
            total += weight
            peaks[word] += weight
            left[WINDOW_START if row.left_id < 0 else self.words[row.left_id]] += weight
            window_start += weight * (row.left_id < 0)
            if row.next_id >= 0:
                following[self.words[row.next_id]] += weight
            inside_word += weight * (start > 0 and text[start - 1 : start + 1].isalpha())
            prefix = text[:start].rpartition("\n")[2]
            line_start += weight * (not prefix.strip() and not is_blank(word))
            if opening := _LINE_WORD.match(prefix.lstrip()):
                line[opening.group()] += weight
        following_shares = _largest(following, total)
        return {
            "peaks": _largest(peaks, total),
            "left": _largest(left, total),
            "next": following_shares,
            "says": tuple(pair for pair in following_shares if pair[0] in promoted),
            "line": _largest(line, total),
            "inside_word": inside_word / total,
            "line_start": line_start / total,
            "window_start": window_start / total,
            **self._positions(rows),
        }

    def _positions(self, rows: list[_Example]) -> dict[str, int]:
        positions = sorted(row.position for row in rows if row.group == 0) or [0]
        tenth = len(positions) // 10
        return {"first_position": positions[tenth], "last_position": positions[-1 - tenth], "window": self._window}

    def _words_around(self, rows: list[_Example]) -> dict[str, Shares]:
        strongest = [row for row in rows if row.group == 0]
        texts = [(self.contexts.text[row.context], row) for row in strongest]
        return {
            "near": self._unusual([text[row.near_start : row.near_end] for text, row in texts]),
            "earlier": self._unusual([text[: row.start] for text, row in texts]),
        }

    def _unusual(self, texts: list[str]) -> Shares:
        """Return words that stand in most of the texts and much more seldom in contexts at large."""
        found: Counter[str] = Counter()
        for text in texts:
            found.update(_words(text))
        shares = {}
        for word, count in found.items():
            share = count / len(texts)
            if count >= 3 and share >= _NEAR_SHARE and share >= _NEAR_LIFT * self._context_share.get(word, 0.0):
                shares[word] = share
        return _largest(shares)


class _Example(NamedTuple):
    """An example's peak: ids are -1 outside the window, characters count in the context's text."""

    group: int
    context: int
    position: int
    value: float
    token_id: int
    left_id: int
    next_id: int
    start: int
    near_start: int
    near_end: int


def _columns(dashboard: DictionaryDashboard, contexts: ContextTable, rows: slice) -> list[_Example]:
    """Look up what some examples need."""
    examples, ids = dashboard.examples, contexts.token_ids_t
    context_x, position_x = examples.context_x[rows], examples.peak_position_x[rows]
    first = contexts.indptr_c[context_x] + contexts.has_bos
    last = contexts.indptr_c[context_x + 1] - 1
    token = contexts.indptr_c[context_x] + position_x
    columns = (
        examples.group_x[rows],
        context_x,
        position_x,
        np.maximum(examples.peak_value_x[rows], 1e-30),
        ids[token],
        np.where(token > first, ids[np.maximum(token - 1, 0)].astype(np.int64), -1),
        np.where(token < last, ids[np.minimum(token + 1, len(ids) - 1)].astype(np.int64), -1),
        contexts.starts_t[token],
        contexts.starts_t[np.maximum(token - _NEAR_TOKENS, first)],
        contexts.ends_t[np.minimum(token + _NEAR_TOKENS, last)],
    )
    return [_Example(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def word_of(text: str) -> str:
    """Return a token's text without the space around it; what is nothing but space stays as it is."""
    return text.strip() or text


def is_blank(word: str) -> bool:
    return not word.strip()


def _words(text: str) -> set[str]:
    return {word.casefold() for word in _WORD.findall(text)}


def _context_shares(contexts: ContextTable) -> dict[str, float]:
    """Return the share of contexts in which each word stands; of many contexts, that of some spread over them."""
    counts: Counter[str] = Counter()
    numbers = range(0, len(contexts), -(-len(contexts) // _COUNTED_CONTEXTS) or 1)
    for number in numbers:
        counts.update(_words(contexts.text[number]))
    return {word: count / len(numbers) for word, count in counts.items()}


def _largest(weights: dict[str, float], total: float = 1.0) -> Shares:
    """Return shares from the largest on, equal ones by text; spellings that differ in case count as the commonest."""
    pairs = sorted(weights.items(), key=lambda pair: (-pair[1], pair[0]))
    spelling: dict[str, str] = {}
    merged: dict[str, float] = {}
    for text, weight in pairs:
        shown = spelling.setdefault(text.casefold(), text)
        merged[shown] = merged.get(shown, 0.0) + weight
    return tuple((text, weight / total) for text, weight in sorted(merged.items(), key=lambda pair: -pair[1])[:16])
