"""Rows that a page repeats by the dozen, as HTML: a template would take longer over them than Postgres over their data.

A feature page has 29 rows of features around it, 32 neighbours, 40 tokens and 16 examples; a list 50 rows, a search 80
hits. Each function here is the one place of its row, as a template with an underscore is of its fragment.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from html import escape

from django.utils.safestring import SafeString, mark_safe

from explorer.charts import density_width
from explorer.context_html import example_html, marked_html, shown
from explorer.figures import figure, percent, signed
from explorer.ramps import activation_level
from features.results import ContextHit, ExampleCard, FeatureRow, Neighbour, TokenEffect
from inference.dashboards.results import HARD_SILENT

SHOWN_EFFECTS = 10
# Characters of a label in a line of several.
LABEL = 60
_ROW, _REST = "<tr>", '<tr class="rest">'


def meter(percentage: float) -> str:
    """Draw a share, 0 to 100, as a thin bar."""
    return (
        '<svg class="meter" viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect width="100" height="4"/><rect width="{float(percentage):g}" height="4"/></svg>'
    )


def level(value: float, maximum: float) -> str:
    """Return the colour class of a value."""
    return f"{'n' if value < 0 else 'p'}{activation_level(value, maximum)}"


@lru_cache(maxsize=1 << 15)
def chip(token: str) -> str:
    """Show a token as a chip."""
    return f'<span class="chip">{escape(shown(token))}</span>'


def rail_rows(rows: Iterable[FeatureRow], here: int | None) -> SafeString:
    """Return the features around one, which is `here`."""
    return mark_safe("".join(_rail_row(row, here) for row in rows))


def _rail_row(row: FeatureRow, here: int | None) -> str:
    if row.label:
        label = f"<bdi>{escape(row.label)}</bdi>"
    else:
        label = f'<span class="muted">{"no label yet" if row.firing_count else "dead"}</span>'
    current = ' aria-current="true"' if row.index == here else ""
    return (
        f'<li><a href="{escape(row.url)}"{current}><span class="index">{row.index}</span>\n'
        f'<span class="label">{label}</span>\n'
        f'<span class="sub">{" ".join(map(chip, row.peak_tokens[:2]))} {meter(density_width(row.density))}</span>'
        "</a></li>\n"
    )


def neighbours(rows: Sequence[Neighbour], url: str) -> SafeString:
    """Return the list of a feature's neighbours in the dictionary at `url`."""
    items = [
        f'<li><a href="{escape(url)}/{row.index}"><span class="index">{row.index}</span>\n'
        f'<span class="label"><bdi>{escape(row.label or "no label yet")}</bdi></span>\n'
        f'<span class="value"{_shares(row)}>{row.value:.2f}</span></a></li>'
        for row in rows
    ]
    listed = "".join(items) or '<li class="muted small">None recorded.</li>'
    return mark_safe(f'<ul class="neighbours">{listed}</ul>')


def _shares(row: Neighbour) -> str:
    """Say how often each of two features fires with the other."""
    if row.share_here is None or row.share_there is None:
        return ""
    return f' title="the other fires at {row.share_here:.0%} of these firings, this at {row.share_there:.0%} of its"'


def effect_rows(effects: Sequence[TokenEffect], reach: float) -> SafeString:
    """Return the rows of tokens that a feature promotes or suppresses, on a scale that ends at `reach`."""
    rows = [
        f'{_ROW if place <= SHOWN_EFFECTS else _REST}<td><span class="chip {level(effect.value, reach)}"'
        f' title="token {effect.token_id}, {effect.z:+.1f} deviations">{escape(shown(effect.text))}</span></td>'
        f"<td>{signed(effect.value)}</td></tr>"
        for place, effect in enumerate(effects, 1)
    ]
    return mark_safe("".join(rows) or '<tr><td class="muted">none</td><td></td></tr>')


def table_rows(rows: Iterable[FeatureRow]) -> SafeString:
    """Return the rows of a table of features."""
    return mark_safe("".join(map(_table_row, rows)))


def _table_row(row: FeatureRow) -> str:
    if row.label:
        label = f"<bdi>{escape(row.label)}</bdi>"
    else:
        label = f'<span class="muted">{"no label yet" if row.firing_count else "silent in the build"}</span>'
    density, maximum = percent(row.density), figure(row.maximum)
    share = "" if row.share is None else f"{percent(row.share)} on it · "
    on_token = (
        ""
        if row.share is None
        else (
            f'<td class="n c-share"><span class="density-cell"><span>{percent(row.share)}</span>'
            f"{meter(100 * row.share)}</span></td>\n"
        )
    )
    return (
        f'<tr data-row><td class="numbers muted c-index">{row.index}{_group(row.group)}</td>\n'
        f'<td><a class="cover label" href="{escape(row.url)}">{label}</a>\n'
        f'<span class="on-phone small muted">{share}{density} · max {maximum}</span></td>\n'
        f'<td class="c-peaks"><span class="chips">{"".join(map(chip, row.peak_tokens[:4]))}</span></td>\n'
        f'<td class="c-promoted"><span class="chips">{"".join(map(chip, row.promoted_tokens[:3]))}</span></td>\n'
        f"{on_token}"
        f'<td class="n c-density"><span class="density-cell"><span>{density}</span>'
        f"{meter(density_width(row.density))}</span></td>\n"
        f'<td class="n c-max">{maximum}</td></tr>\n'
    )


def _group(group: int | None) -> str:
    if group is None:
        return ""
    return f'<span class="level" title="nested group {group}; 0 is the most general">g{group}</span>'


def hits(rows: Iterable[FeatureRow]) -> SafeString:
    """Return features that a search found, with why, where their label does not say it."""
    return mark_safe("".join(map(_hit, rows)))


def _hit(row: FeatureRow) -> str:
    why = ""
    if row.matched and row.label not in row.matched:
        why = f'<div class="small soft"><bdi>{escape(row.matched)}</bdi></div>\n'
    return (
        f'<li class="hit" data-row><a class="cover label" href="{escape(row.url)}">'
        f"<bdi>{escape(row.label or 'no label yet')}</bdi></a>\n"
        f'<div class="why row"><span class="mono">{escape(row.url[1:])}</span>\n'
        f"<span>{percent(row.density)}</span>\n"
        f'<span class="chips">{"".join(map(chip, row.peak_tokens[:3]))}</span></div>\n{why}</li>\n'
    )


def context_hits(found: Iterable[ContextHit]) -> SafeString:
    """Return contexts that a search found, with the features that peak at the match."""
    return mark_safe("".join(map(_context_hit, found)))


def _context_hit(hit: ContextHit) -> str:
    features = " · ".join(
        f'<a class="over" href="{escape(row.url)}">{escape(f"{row.source}/{row.index} {_short(row.label)}")}</a>'
        for row in hit.features
    )
    if features:
        features = f'<div class="small">peaks here: {features}</div>'
    return (
        f'<li class="hit" data-row>\n<div class="tokens">{marked_html(hit.text, hit.matched)}</div>\n'
        f'<div class="why"><a class="cover" href="{escape(hit.document_url)}">'
        f"{escape(hit.document.rsplit('/', 1)[-1])}:{hit.line}</a> in {escape(hit.model)}</div>\n"
        f"{features}</li>\n"
    )


def _short(label: str) -> str:
    return label if len(label) <= LABEL else f"{label[: LABEL - 1]}…"


def example(row: ExampleCard, maximum: float) -> SafeString:
    """Return one recorded context with where it is from, on a colour scale that ends at `maximum`."""
    peak = figure(row.peak_value)
    basename = row.document.rsplit("/", 1)[-1]
    name = f"{basename}:{row.line}" if row.line else basename
    if row.group >= HARD_SILENT:
        at = '<span class="badge">silent</span>'
    else:
        meaning = "activation at the sampled token" if row.group else "peak activation"
        at = f'<span class="value" title="{meaning}">{peak}</span>'
    similar = (
        f'\n<span class="value similar" title="{row.n_similar} near-duplicates are folded into this one">'
        f"+{row.n_similar}</span>"
        if row.n_similar
        else ""
    )
    if row.document_url:
        title = escape(f"{row.document}, line {row.line}")
        source = f'<a href="{escape(row.document_url)}" title="{title}"><bdi>{escape(name)}</bdi></a>'
    else:
        source = f'<span class="file" title="{escape(row.document)}"><bdi>{escape(name)}</bdi></span>'
    held_out = (
        '\n<span class="split" title="held out: never shown to a method that explains">held out</span>'
        if row.split == "test"
        else ""
    )
    return mark_safe(
        f'<article class="example" tabindex="0" data-row data-context="{row.context}"'
        f' data-ids="{",".join(map(str, row.token_ids))}" data-max="{maximum}"'
        f' aria-label="{escape(basename)} line {row.line}, activation {peak}">\n'
        f'<div class="peak-at">{at}{similar}</div>\n'
        f'<div class="tokens">{example_html(row, maximum)}</div>\n'
        f'<div class="from">{source}{held_out}</div>\n</article>\n'
    )
