"""Token spans of one context as HTML, built by joins: a page shows thousands of tokens, too many for a template loop.

Each run of tokens that shares a span of characters becomes one `<i>` element, so that a multi-byte character split
over several tokens is shown once. Classes give the colour level; `data-v` the activation; `data-n` how many tokens
the element stands for when that is not one. Marks (newline sign, boundary dots) are pseudo-elements, so that a
copied context is clean text. Segments around the peak let the stylesheet choose how much to show:
`before`, `peak` and `after`, with `far` beyond 48 tokens and `mid` beyond 16 inside them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from html import escape

from django.utils.safestring import SafeString, mark_safe

from explorer.live_values import PromptToken
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
    fired = dict(zip(positions, values, strict=True))
    out: list[str] = []
    side, segment = "", ""
    position, n_tokens = 0, len(starts)
    while position < n_tokens:
        start, end = starts[position], ends[position]
        last = position + 1
        if end > start:
            while last < n_tokens and starts[last] == start and ends[last] == end:
                last += 1
        if peak is not None:
            wanted_side, wanted_segment = _place(position, last - 1, peak)
            if segment and (wanted_segment != segment or wanted_side != side):
                out.append("</span>")
                segment = ""
            if wanted_side != side:
                out.append(f'{"</span></span>" if side else ""}<span class="{wanted_side}"><span>')
                side = wanted_side
            if wanted_segment and not segment:
                out.append(f'<span class="{wanted_segment}">')
                segment = wanted_segment
        if last == position + 1 and position not in fired:
            out.append(_silent(text[start:end]))
        else:
            # Of the tokens that share a span, the strongest colours it.
            value = max((fired.get(p, 0.0) for p in range(position, last)), key=abs)
            out.append(_element(text[start:end], last - position, value, maximum))
        position = last
    out.append(("</span>" if segment else "") + ("</span></span>" if side else ""))
    return mark_safe("".join(out))


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


def _place(first: int, last: int, peak: int) -> tuple[str, str]:
    """Return the side of the peak (before, peak, after) and the segment (far, mid or none when near)."""
    distance = first - peak if first > peak else peak - last
    if distance <= 0:
        return "peak", ""
    segment = "far" if distance > MIDDLE else "mid" if distance > NEAR else ""
    return ("after" if first > peak else "before"), segment


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


def live_tokens_html(
    tokens: Sequence[PromptToken], levels: Sequence[int] | None = None, values: Sequence[float] | None = None
) -> SafeString:
    """Return the `<i>` elements of a text that was just run; each carries its position as `data-at`.

    Tokens without a text of their own (the rest of a multi-byte character) join the element before them.
    """
    out: list[str] = []
    place = 0
    while place < len(tokens):
        token = tokens[place]
        last = place + 1
        while last < len(tokens) and not tokens[last].text and not tokens[last].is_bos:
            last += 1
        classes, extra = [], ""
        if token.is_bos:
            classes.append("bos")
            extra = f' data-name="{escape(token.name)}"'
        if values is not None and levels is not None and any(values[place:last]) and not token.is_bos:
            best = max(range(place, last), key=lambda i: values[i])
            classes.append(f"p{levels[best]}")
            if token.text[:1] == " ":
                classes.append("sp")
            extra += f' data-v="{values[best]:.4g}"'
        if token.selected:
            classes.append("in-selection")
        if token.is_template:
            classes.append("template")
        if last - place > 1:
            extra += f' data-n="{last - place}"'
        body = '<s data-s="⟨bos⟩"></s>' if token.is_bos else _body(token.text)
        named = f' class="{" ".join(classes)}"' if classes else ""
        out.append(f'<i{named} data-at="{token.position}"{extra}>{body}</i>')
        place = last
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
