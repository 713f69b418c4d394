"""Token spans of one context as HTML, built by joins: a page shows thousands of tokens, too many for a template loop.

Each run of tokens that shares a span of characters becomes one `<i>` element, so that a multi-byte character split
over several tokens is shown once. Classes give the colour level; `data-v` the activation; `data-n` how many tokens
the element stands for when that is not one. Marks (newline sign, boundary dots) are pseudo-elements, so that a
copied context is clean text. Segments around the peak let the stylesheet choose how much to show:
`before`, `peak` and `after`, with `far` beyond 48 tokens and `mid` beyond 16 inside them.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import lru_cache
from html import escape
from itertools import pairwise

from django.utils.safestring import SafeString, mark_safe

from explorer.live_values import PromptToken, TracedToken
from explorer.ramps import activation_level
from features.results import ExampleCard

NEAR, MIDDLE = 16, 48
_SPECIAL = re.compile(r"\n|\t|[\x00-\x08\x0b-\x1f\x7f]| {3,}")
_SIGNS = {"\n": "↵", "\t": "→"}


def tokens_html(
    text: str,
    starts: Sequence[int],
    ends: Sequence[int],
    positions: Sequence[int],
    values: Sequence[float],
    *,
    maximum: float,
    peak: int | None = None,
) -> SafeString:
    """Return the `<i>` elements of a context, in segments when `peak` is given. `maximum` ends the colour scale."""
    spans = list(zip(starts, ends, strict=True))
    fired = dict(zip(positions, values, strict=True))
    elements = [_silent(text[start:end]) for start, end in spans]
    firsts: Sequence[int] = range(len(spans))
    if len(set(starts)) < len(spans) and len(set(spans)) < len(spans):
        firsts = _firsts(spans)
        elements = _joined(text, spans, firsts, fired, maximum)
    else:
        for position, value in fired.items():
            elements[position] = _element(text[slice(*spans[position])], 1, value, maximum)
    return mark_safe("".join(elements if peak is None else _segments(elements, firsts, len(spans), peak)))


def _firsts(spans: Sequence[tuple[int, int]]) -> list[int]:
    """Return the first token of each run that shares a span of characters; empty spans are shared by none."""
    return [0] + [i for i in range(1, len(spans)) if spans[i] != spans[i - 1] or spans[i][0] == spans[i][1]]


def _joined(
    text: str, spans: Sequence[tuple[int, int]], firsts: Sequence[int], fired: Mapping[int, float], maximum: float
) -> list[str]:
    """Return an element for each run; of the tokens that share a span, the strongest colours it."""
    elements = []
    for first, end in pairwise([*firsts, len(spans)]):
        value = max((fired.get(position, 0.0) for position in range(first, end)), key=abs)
        elements.append(_element(text[slice(*spans[first])], end - first, value, maximum))
    return elements


def _segments(elements: Sequence[str], firsts: Sequence[int], n_tokens: int, peak: int) -> list[str]:
    """Return the elements in their segments: far, mid and near before the peak, the peak, and the same after it."""
    at = bisect_right(firsts, peak) - 1
    end = firsts[at + 1] if at + 1 < len(firsts) else n_tokens  # the token after those of the peak's element
    # An element before the peak is as far as its last token, which comes right before the next one's first.
    far, mid = (max(0, bisect_right(firsts, peak - reach) - 1) for reach in (MIDDLE, NEAR))
    parts = []
    if at:
        near = "".join(elements[mid:at])
        parts.append(
            f'<span class="before"><span>{_wrapped("far", elements[:far])}{_wrapped("mid", elements[far:mid])}{near}'
            "</span></span>"
        )
    parts.append(f'<span class="peak"><span>{elements[at]}</span></span>')
    if end < n_tokens:
        mid, far = (bisect_right(firsts, peak + reach) for reach in (NEAR, MIDDLE))
        near = "".join(elements[at + 1 : mid])
        parts.append(
            f'<span class="after"><span>{near}{_wrapped("mid", elements[mid:far])}{_wrapped("far", elements[far:])}'
            "</span></span>"
        )
    return parts


def _wrapped(segment: str, elements: Sequence[str]) -> str:
    return f'<span class="{segment}">{"".join(elements)}</span>' if elements else ""


def example_html(example: ExampleCard, maximum: float) -> SafeString:
    """Return the tokens of an example, with segments around its peak."""
    return tokens_html(
        example.text,
        example.starts,
        example.ends,
        example.positions,
        example.values,
        maximum=maximum,
        peak=example.peak_position,
    )


@lru_cache(maxsize=1 << 15)
def shown(text: str) -> str:
    """Return a token's text for chips and tables: spaces at its borders as dots, newline and control bytes as signs."""
    if not text:
        return "∅"
    body = _SPECIAL.sub(_sign, text)
    stripped = body.strip(" ")
    lead, trail = len(body) - len(body.lstrip(" ")), len(body) - len(body.rstrip(" "))
    return "·" * lead + stripped + "·" * trail if stripped else "·" * len(body)


def _sign(match: re.Match[str]) -> str:
    found = match[0]
    if found[0] == " ":
        return f"·×{len(found)}" + (" " if match.end() < len(match.string) else "")
    return _SIGNS.get(found, f"\\x{ord(found):02x}")


def _element(text: str, count: int, value: float, maximum: float) -> str:
    attributes = ""
    if value:
        sign = "p" if value > 0 else "n"
        dotted = " sp" if text[:1] == " " else ""
        attributes = f' class="{sign}{activation_level(value, maximum)}{dotted}" data-v="{value:.4g}"'
    if count != 1:
        attributes += f' data-n="{count}"'
    return f"<i{attributes}>{_body(text)}</i>"


@lru_cache(maxsize=1 << 16)
def _silent(text: str) -> str:
    """Return the element of one token that does not fire: most of a page, and of few different texts."""
    return f"<i>{_body(text)}</i>"


def _body(text: str) -> str:
    if not text:
        return '<s data-s="⟨bos⟩"></s>'
    if not _SPECIAL.search(text):
        return escape(text)
    out, place = [], 0
    for match in _SPECIAL.finditer(text):
        out.append(escape(text[place : match.start()]))
        if match[0] == "\n":
            out.append('<s class="nl">\n</s>')
        elif match[0] == "\t":
            out.append("\t")
        elif match[0][0] == " ":
            out.append(f'<s class="ws">{match[0]}</s>')
        else:
            out.append(f'<s data-s="\\x{ord(match[0]):02x}"></s>')
        place = match.end()
    out.append(escape(text[place:]))
    return "".join(out)


Marks = Mapping[int, tuple[str, float]]


def runs_of(tokens: Sequence[PromptToken]) -> list[tuple[int, int]]:
    """Return the first token of each element and the one after its last: a multi-byte character is one element."""
    runs: list[tuple[int, int]] = []
    for place, token in enumerate(tokens):
        if runs and not token.text and not token.is_bos and not tokens[runs[-1][0]].is_bos:
            runs[-1] = (runs[-1][0], place + 1)
        else:
            runs.append((place, place + 1))
    return runs


def activation_marks(tokens: Sequence[PromptToken], levels: Sequence[int], values: Sequence[float]) -> Marks:
    """Return by each element's first token its class and value: of tokens that share one, the strongest.

    BOS has none: it is not counted.
    """
    marks = {}
    for first, end in runs_of(tokens):
        best = max(range(first, end), key=lambda i: values[i])
        if values[best] and not tokens[first].is_bos:
            marks[first] = (f"p{levels[best]}", values[best])
    return marks


def source_marks(tokens: Sequence[PromptToken], traced: TracedToken) -> Marks:
    """Return by each element's first token its class, of two ramps, and what it adds: tokens that share one add up."""
    marks = {}
    for first, end in runs_of(tokens):
        value = sum(traced.sources[first:end])
        if value:
            marks[first] = (f"{'p' if value > 0 else 'n'}{activation_level(value, traced.scale)}", value)
    return marks


def live_tokens_html(
    tokens: Sequence[PromptToken], marks: Marks | None = None, destination: int | None = None
) -> SafeString:
    """Return the `<i>` elements of a text that was just run; each carries its position as `data-at`.

    Tokens without a text of their own (the rest of a multi-byte character) join the element before them.
    """
    out: list[str] = []
    for first, end in runs_of(tokens):
        token = tokens[first]
        classes, extra = [], ""
        if marks and first in marks:
            name, value = marks[first]
            classes.append(name)
            extra = f' data-v="{value:.4g}"'
            if token.text[:1] == " ":
                classes.append("sp")
        if destination is not None and first <= destination < end:
            classes.append("destination")
        if token.is_bos:
            classes.append("bos")
            extra += f' data-name="{escape(token.name)}"'
        if token.selected:
            classes.append("in-selection")
        if token.is_template:
            classes.append("template")
        if end - first > 1:
            extra += f' data-n="{end - first}"'
        body = '<s data-s="⟨bos⟩"></s>' if token.is_bos else _body(token.text)
        named = f' class="{" ".join(classes)}"' if classes else ""
        out.append(f'<i{named} data-at="{token.position}"{extra}>{body}</i>')
    return mark_safe("".join(out))


def marked_html(text: str, spans: Sequence[tuple[int, int]]) -> SafeString:
    """Return text with `<mark>` around the given character spans, which do not overlap."""
    out, place = [], 0
    for start, end in sorted(spans):
        out += [_body(text[place:start]), "<mark>", _body(text[start:end]), "</mark>"]
        place = end
    return mark_safe("".join(out) + _body(text[place:]))


def snippet_html(example: ExampleCard, maximum: float, *, reach: int = 12) -> SafeString:
    """Return the tokens within `reach` of an example's peak."""
    first = max(0, example.peak_position - reach)
    last = min(len(example.starts), example.peak_position + reach + 1)
    kept = [(p - first, v) for p, v in zip(example.positions, example.values, strict=True) if first <= p < last]
    return tokens_html(
        example.text,
        example.starts[first:last],
        example.ends[first:last],
        [p for p, _ in kept],
        [v for _, v in kept],
        maximum=maximum,
    )
