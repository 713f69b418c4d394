"""Template tags and filters: token text, numbers with three significant figures, charts, and shared page values."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django import template
from django.utils import timezone
from django.utils.safestring import SafeString, mark_safe

from explorer import charts, context_html, figures, rows_html, shard_cells
from explorer.live_values import PromptToken, TestedText, TokenValue, TracedToken
from features.results import ExampleCard
from inference.hook_points import shortened

register = template.Library()
for _filter in (
    context_html.shown,
    figures.compact,
    figures.duration,
    figures.figure,
    figures.percent,
    figures.signed,
    rows_html.level,
):
    register.filter(_filter.__name__, _filter)
for _tag in (
    charts.activation_chart,
    charts.density_chart,
    charts.token_chart,
    charts.logit_chart,
    rows_html.context_hits,
    rows_html.effect_rows,
    rows_html.example,
    rows_html.hits,
    rows_html.neighbours,
    rows_html.rail_rows,
    rows_html.table_rows,
    shard_cells.shard_cells,
):
    register.simple_tag(_tag)

THEMES = ("light", "dark")
WIDTHS = ("stacked", "snippet", "paragraph", "full")


@register.simple_tag
def example_snippet(example: ExampleCard, maximum: float) -> SafeString:
    """Render the tokens around an example's peak."""
    return context_html.snippet_html(example, maximum)


@register.simple_tag
def tested_tokens(tested: TestedText) -> SafeString:
    """Render a text that was just tested on one feature."""
    marks = context_html.activation_marks(tested.tokens, tested.levels, tested.values)
    return context_html.live_tokens_html(tested.tokens, marks)


@register.simple_tag
def traced_tokens(tokens: Sequence[PromptToken], traced: TracedToken) -> SafeString:
    """Render a text coloured by what each token adds to a feature at one of them."""
    return context_html.live_tokens_html(tokens, context_html.source_marks(tokens, traced), traced.position)


@register.simple_tag
def traced_values(tokens: Sequence[PromptToken], traced: TracedToken) -> str:
    """Return `position:class:value,…`, from which a script colours the text for another token."""
    marks = context_html.source_marks(tokens, traced)
    return ",".join(f"{position}:{name}:{value:.4g}" for position, (name, value) in marks.items())


@register.simple_tag
def ribbon_tokens(tokens: Sequence[PromptToken]) -> SafeString:
    """Render the tokens of a prompt, uncoloured: a script lights them for the feature at hand."""
    return context_html.live_tokens_html(tokens)


@register.simple_tag
def firing_values(values: Sequence[TokenValue]) -> str:
    """Return `position:level:value,…`, from which a script lights the tokens of a prompt."""
    return ",".join(f"{value.position}:{value.level}:{value.value:.4g}" for value in values)


@register.simple_tag
def firing_strip(values: Sequence[TokenValue], tokens: Sequence[PromptToken]) -> SafeString:
    """Draw where along a prompt a feature fires."""
    bars = "".join(f'<rect class="p{value.level}" x="{value.position}" width="1" height="1"/>' for value in values)
    return mark_safe(
        f'<svg class="strip-mini" viewBox="0 0 {len(tokens)} 1" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="base" width="{len(tokens)}" height="1"/>{bars}</svg>'
    )


@register.simple_tag
def meter(percentage: float) -> SafeString:
    """Draw a share, 0 to 100, as a thin bar."""
    return mark_safe(rows_html.meter(percentage))


@register.simple_tag(takes_context=True)
def theme(context: template.Context) -> str:
    """Return the theme that the reader chose, or nothing to follow the system."""
    return _cookie(context, "theme", THEMES, "")


@register.simple_tag(takes_context=True)
def context_width(context: template.Context) -> str:
    """Return how much of each context the address asks for, or else what the reader last chose."""
    request = context.get("request")
    asked = request.GET.get("width", "") if request is not None else ""
    return asked if asked in WIDTHS else _cookie(context, "width", WIDTHS, "stacked")


@register.filter
def spark(density: float) -> float:
    return charts.density_width(density)


@register.filter
def multiply(value: float, factor: float) -> float:
    return round(value * factor, 2)


@register.filter
def share_of(value: float, total: float) -> float:
    """Return a percentage, 0 to 100, for the width of a bar."""
    return round(100 * value / total, 2) if total else 0.0


@register.filter
def commas(values: tuple[int, ...]) -> str:
    return ",".join(map(str, values))


@register.filter
def points(hook_point: str) -> str:
    """Return the name of a hook point, of several joined ones as short as it can be read."""
    return shortened(hook_point)


@register.filter
def basename(path: str) -> str:
    return path.rsplit("/", 1)[-1]


@register.filter
def ago(moment: datetime | None) -> str:
    """Say how long ago something was, in its largest unit."""
    if moment is None:
        return "never"
    seconds = (timezone.now() - moment).total_seconds()
    for size, unit in ((86400 * 365, "y"), (86400 * 30, "mo"), (86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return "just now"


def _cookie(context: template.Context, name: str, allowed: tuple[str, ...], default: str) -> str:
    request = context.get("request")
    value = request.COOKIES.get(name, default) if request is not None else default
    return value if value in allowed else default
