"""Template tags and filters: token text, numbers with three significant figures, charts, and shared page values."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django import template
from django.utils import timezone
from django.utils.safestring import SafeString, mark_safe

from explorer import charts, context_html
from explorer.live_values import PromptToken, TestedText, TokenValue
from explorer.ramps import activation_level
from features.results import ExampleCard, Histogram

register = template.Library()

THEMES = ("light", "dark")
WIDTHS = ("stacked", "snippet", "paragraph", "full")


@register.simple_tag
def tokens(example: ExampleCard, maximum: float) -> SafeString:
    """Render an example's tokens, coloured on a scale that ends at `maximum`."""
    return context_html.example_html(example, maximum)


@register.simple_tag
def example_snippet(example: ExampleCard, maximum: float) -> SafeString:
    """Render the tokens around an example's peak."""
    return context_html.snippet_html(example, maximum)


@register.simple_tag
def tested_tokens(tested: TestedText) -> SafeString:
    """Render a text that was just tested on one feature."""
    return context_html.live_tokens_html(tested.tokens, tested.levels, tested.values)


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
def marked_text(text: str, spans: Sequence[tuple[int, int]]) -> SafeString:
    """Render text with its matches marked."""
    return context_html.marked_html(text, spans)


@register.simple_tag
def activation_chart(histogram: Histogram, maximum: float) -> charts.Chart:
    return charts.activation_chart(histogram, maximum)


@register.simple_tag
def logit_chart(histogram: Histogram) -> charts.Chart:
    return charts.logit_chart(histogram)


@register.simple_tag
def density_chart(histogram: Histogram) -> charts.Chart:
    return charts.density_chart(histogram)


@register.simple_tag
def meter(percentage: float) -> SafeString:
    """Draw a share, 0 to 100, as a thin bar."""
    return mark_safe(
        '<svg class="meter" viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect width="100" height="4"/><rect width="{float(percentage):g}" height="4"/></svg>'
    )


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
def shown(text: str) -> str:
    return context_html.shown(text)


@register.filter
def figure(value: float | None) -> str:
    """Format with three significant figures, thousands grouped; missing values are an en dash."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size < 1e-4:
        return f"{value:.2e}".replace("e-0", "e-")
    digits = f"{value:#.3g}"
    return digits.rstrip(".") if "e" not in digits else f"{value:.3g}"


@register.filter
def signed(value: float) -> str:
    """Format like `figure`, with a sign."""
    return f"{'+' if value > 0 else '−' if value < 0 else ''}{figure(abs(value))}"


@register.filter
def percent(share: float | None) -> str:
    """Format a share in [0, 1] as a percentage with three significant figures."""
    if share is None:
        return "–"
    if share == 0:
        return "0 %"
    scaled = share * 100
    size = abs(scaled)
    if size < 0.001:
        return f"{scaled:.1e} %".replace("e-0", "e-")
    return f"{scaled:.3g} %" if size < 99.95 else f"{scaled:,.4g} %" if size < 1000 else f"{scaled:,.0f} %"


@register.filter
def compact(count: float | None) -> str:
    """Format a count shortly: 950, 12.3k, 1.05M."""
    if count is None:
        return "–"
    for limit, divisor, suffix in ((1e9, 1e9, "B"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(count) >= limit:
            return f"{count / divisor:.3g}{suffix}"
    return f"{count:,.0f}"


@register.filter
def level(value: float, maximum: float) -> str:
    """Return the colour class of a value."""
    return f"{'n' if value < 0 else 'p'}{activation_level(value, maximum)}"


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


@register.filter
def duration(seconds: float | None) -> str:
    """Format a waiting time: 45 s, 3 min 20 s, 2 h 5 min."""
    if seconds is None:
        return "–"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _cookie(context: template.Context, name: str, allowed: tuple[str, ...], default: str) -> str:
    request = context.get("request")
    value = request.COOKIES.get(name, default) if request is not None else default
    return value if value in allowed else default
