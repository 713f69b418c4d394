"""Evidence about a feature, counted from its dashboard: tokens, their surroundings, lines, words, promoted tokens.

Tokens count as the same word whatever the space before them. Shares of tokens are shares of activation mass over the
whole pass; shares of surroundings are over the recorded examples, weighted by their activation at the peak, or in
bands at the sampled token.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, compress
from operator import itemgetter
from typing import Any

import numpy as np

from inference.dashboards.results import ContextTable, DictionaryDashboard
from inference.explanations.context_text import NOWHERE, ContextText, words_of

# Words that stand in at least this share of a feature's strongest contexts, and how much more often than elsewhere.
_NEAR_SHARE, _NEAR_LIFT = 0.5, 4.0
_NEAR_TOKENS = 16
# Examples that are looked up together, and contexts in which words are counted: as many as a sample needs.
_LOOKED_UP_AT_ONCE = 50_000
_COUNTED_CONTEXTS = 100_000
# Contexts whose lines and words are remembered, some 10 kB each.
_KNOWN_CONTEXTS = 8192
_KEPT = 5
# Groups of examples above it are silent.
_LAST_BAND = 5
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
        self.text_of = lru_cache(_KNOWN_CONTEXTS)(lambda context: ContextText(contexts.text[context]))
        # Those of the features from the first on; looked up for some at once, since one by one takes most of the time.
        self._examples = _Examples.of(self, slice(0, 0))
        self._context_share = _context_shares(contexts)
        self._window = int(np.diff(contexts.indptr_c).max())

    def read(self, feature: int) -> Evidence:
        """Return the evidence about a feature, from all that is recorded of it."""
        rows = self._rows(feature, last_group=_LAST_BAND)
        return self._evidence(feature, rows, self._tokens(feature))

    def read_strongest(self, feature: int) -> Evidence:
        """Return the evidence of the strongest contexts alone, where `tokens` are those that peak in them."""
        rows = self._rows(feature, last_group=0)
        span = slice(rows.start, rows.stop)
        peaks = _summed(self._examples.word[span], self._examples.value[span])
        return self._evidence(feature, rows, _largest(peaks, sum(peaks.values())))

    def _rows(self, feature: int, *, last_group: int) -> range:
        """Return the places, among those looked up, of a feature's examples up to a group; groups ascend."""
        rows, known = self.dashboard.examples.of_feature(feature), self._examples.rows
        if not known.start <= rows.start <= rows.stop <= known.stop:
            stop = min(len(self.dashboard.examples), rows.start + max(len(rows), _LOOKED_UP_AT_ONCE))
            self._examples = _Examples.of(self, slice(rows.start, stop))
            known = self._examples.rows
        first, stop = rows.start - known.start, rows.stop - known.start
        return range(first, bisect_right(self._examples.group, last_group, first, stop))

    def _evidence(self, feature: int, rows: range, tokens: Shares) -> Evidence:
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
        strongest = range(rows.start, bisect_right(self._examples.group, 0, rows.start, rows.stop))
        return Evidence(
            **common,
            tokens=tokens,
            **self._surroundings(rows, promoted),
            **self._positions(strongest),
            **self._words_around(strongest),
        )

    def _texts(self, ids: np.ndarray) -> tuple[str, ...]:
        words = (self.words[token_id] for token_id in ids.tolist() if token_id >= 0)
        return tuple(dict.fromkeys(word for word in words if word))

    def _tokens(self, feature: int) -> Shares:
        board, shares = self.dashboard, defaultdict(float)
        ids, masses = board.peak_token_ids_fk[feature].tolist(), board.peak_token_shares_fk[feature].tolist()
        for token_id, share in zip(ids, masses, strict=True):
            if token_id >= 0:
                shares[self.words[token_id]] += share
        return _largest(shares)

    def _surroundings(self, rows: range, promoted: tuple[str, ...]) -> dict[str, Any]:
        examples, span = self._examples, slice(rows.start, rows.stop)
        weights, left = examples.value[span], examples.left[span]
        total = sum(weights)
        following_shares = _largest(_summed(examples.following[span], weights), total)
        return {
            "peaks": _largest(_summed(examples.word[span], weights), total),
            "left": _largest(_summed(left, weights), total),
            "next": following_shares,
            "says": tuple(pair for pair in following_shares if pair[0] in promoted),
            "line": _largest(_summed(examples.opening[span], weights), total),
            "inside_word": sum(compress(weights, examples.inside_word[span])) / total,
            "line_start": sum(compress(weights, examples.line_start[span])) / total,
            "window_start": sum(compress(weights, [word is WINDOW_START for word in left])) / total,
        }

    def _positions(self, strongest: range) -> dict[str, int]:
        positions = sorted(self._examples.position[strongest.start : strongest.stop]) or [0]
        tenth = len(positions) // 10
        return {"first_position": positions[tenth], "last_position": positions[-1 - tenth], "window": self._window}

    def _words_around(self, strongest: range) -> dict[str, Shares]:
        examples, span = self._examples, slice(strongest.start, strongest.stop)
        texts = [self.text_of(context) for context in examples.context[span]]
        near = map(ContextText.words_in, texts, examples.near_start[span], examples.near_end[span])
        earlier = map(ContextText.words_before, texts, examples.start[span])
        return {name: self._unusual(words, len(texts)) for name, words in (("near", near), ("earlier", earlier))}

    def _unusual(self, words_of_texts: Iterable[Iterable[str]], n_texts: int) -> Shares:
        """Return words that stand in most of the texts and much more seldom in contexts at large."""
        found = Counter(chain.from_iterable(words_of_texts))
        least = max(3, _NEAR_SHARE * n_texts)
        often = [(word, count / n_texts) for word, count in found.items() if count >= least]
        return _largest(
            {word: share for word, share in often if share >= _NEAR_LIFT * self._context_share.get(word, 0.0)}
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Examples:
    """Peaks of some examples, a list a property; characters are those of the context.

    `left` and `following` are words, where the window begins and None where it ends. `opening` is the word that opens
    the line, None where nothing stands before the peak there; `line_start` says that it does itself. Of silent
    examples words and lines are not looked up.
    """

    rows: slice
    group: list[int]
    context: list[int]
    position: list[int]
    value: list[float]
    start: list[int]
    near_start: list[int]
    near_end: list[int]
    word: list[str | None]
    left: list[str | None]
    following: list[str | None]
    inside_word: list[bool]
    opening: list[str | None]
    line_start: list[bool]

    @classmethod
    def of(cls, reader: EvidenceReader, rows: slice) -> _Examples:
        """Look up what some examples need."""
        contexts, examples, words = reader.contexts, reader.dashboard.examples, reader.words
        ids, context_x, position_x = contexts.token_ids_t, examples.context_x[rows], examples.peak_position_x[rows]
        first = contexts.indptr_c[context_x] + contexts.has_bos
        last = contexts.indptr_c[context_x + 1] - 1
        token = contexts.indptr_c[context_x] + position_x
        fires = examples.group_x[rows] <= _LAST_BAND
        tokens = np.where(fires, ids[token].astype(np.int64), -1)
        before = np.where(token > first, ids[np.maximum(token - 1, 0)].astype(np.int64), -1)
        behind = np.where(token < last, ids[np.minimum(token + 1, len(ids) - 1)].astype(np.int64), -1)
        columns = {
            "group": examples.group_x[rows],
            "context": context_x,
            "position": position_x,
            "value": np.maximum(examples.peak_value_x[rows], 1e-30),
            "start": contexts.starts_t[token],
            "near_start": contexts.starts_t[np.maximum(token - _NEAR_TOKENS, first)],
            "near_end": contexts.ends_t[np.minimum(token + _NEAR_TOKENS, last)],
        }
        lists = {name: column.tolist() for name, column in columns.items()}
        word = [words[token_id] if token_id >= 0 else None for token_id in tokens.tolist()]
        places = [
            reader.text_of(context).place(start) if at_peak is not None else NOWHERE
            for context, start, at_peak in zip(lists["context"], lists["start"], word, strict=True)
        ]
        return cls(
            rows=rows,
            **lists,
            word=word,
            left=[words[token_id] if token_id >= 0 else WINDOW_START for token_id in before.tolist()],
            following=[words[token_id] if token_id >= 0 else None for token_id in behind.tolist()],
            inside_word=[place.inside_word for place in places],
            opening=[place.opening for place in places],
            line_start=[
                place.opening is None and at_peak is not None and not is_blank(at_peak)
                for place, at_peak in zip(places, word, strict=True)
            ],
        )


def _summed(words: Iterable[str | None], weights: Iterable[float]) -> dict[str, float]:
    """Add up the weights of each word."""
    sums: dict[Any, float] = {}
    for word, weight in zip(words, weights, strict=True):
        sums[word] = sums.get(word, 0.0) + weight
    sums.pop(None, None)
    return sums


def word_of(text: str) -> str:
    """Return a token's text without the space around it; what is nothing but space stays as it is."""
    return text.strip() or text


def is_blank(word: str) -> bool:
    return not word.strip()


def _context_shares(contexts: ContextTable) -> dict[str, float]:
    """Return the share of contexts in which each word stands; of many contexts, that of some spread over them."""
    counts: Counter[str] = Counter()
    numbers = range(0, len(contexts), -(-len(contexts) // _COUNTED_CONTEXTS) or 1)
    for number in numbers:
        counts.update(words_of(contexts.text[number]))
    return {word: count / len(numbers) for word, count in counts.items()}


def _largest(weights: dict[str, float], total: float = 1.0) -> Shares:
    """Return shares from the largest on, equal ones by text; spellings that differ in case count as the commonest."""
    pairs = sorted(weights.items())
    pairs.sort(key=itemgetter(1), reverse=True)
    if len({text.casefold() for text in weights}) < len(pairs):
        spelling: dict[str, str] = {}
        merged: dict[str, float] = {}
        for text, weight in pairs:
            shown = spelling.setdefault(text.casefold(), text)
            merged[shown] = merged.get(shown, 0.0) + weight
        pairs = sorted(merged.items(), key=itemgetter(1), reverse=True)
    return tuple([(text, weight / total) for text, weight in pairs[:16]])
