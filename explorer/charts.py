"""Charts as plain values: bars for inline SVG, and Plotly figures as JSON-ready dictionaries.

Heights are in units of a 100-high viewBox; every chart carries the rows of its table twin.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.utils.safestring import SafeString, mark_safe

from explorer.ramps import activation_level
from features.results import Histogram

HEIGHT = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bin: `height` on a logarithmic count axis, `linear_height` on a linear one; `css` names its colour level."""

    x: float
    width: float
    height: float
    linear_height: float
    css: str
    low: float
    high: float
    count: int

    @property
    def y(self) -> float:
        return round(HEIGHT - self.height, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    x: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A histogram 300 units wide. `low`, `high`, `log_x` let a script place a value on the axis."""

    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]
    low: float
    high: float
    log_x: bool
    name: str
    total: int

    @property
    def rectangles(self) -> SafeString:
        """Return the bars as SVG; joined here because a feature page has ninety of them."""
        return mark_safe(
            "".join(
                f'<rect class="{bar.css}" x="{bar.x}" y="{bar.y}" width="{bar.width}" height="{bar.height}"'
                f' data-linear="{bar.linear_height}"/>'
                for bar in self.bars
                if bar.count
            )
        )

    @property
    def table_rows(self) -> SafeString:
        """Return the rows of the table twin."""
        return mark_safe(
            "".join(
                f'<tr><td>{_short(bar.low)}</td><td>{_short(bar.high)}</td><td class="n">{bar.count}</td></tr>'
                for bar in self.bars
                if bar.count
            )
        )


def activation_chart(histogram: Histogram, maximum: float) -> Chart:
    """Draw a feature's activations; bars wear the same colours as tokens, so that the chart is the legend too."""
    return _chart(histogram, "activations", lambda value: f"p{activation_level(value, maximum)}")


def logit_chart(histogram: Histogram) -> Chart:
    """Draw a feature's effects on the logits: blue suppresses, amber promotes."""
    reach = max(abs(histogram.edges[0]), abs(histogram.edges[-1])) if histogram.edges else 0.0
    return _chart(
        histogram, "logits", lambda value: f"{'p' if value >= 0 else 'n'}{max(6, activation_level(value, reach))}"
    )


def density_chart(histogram: Histogram) -> Chart:
    """Draw how many features of a dictionary have each density."""
    return _chart(histogram, "densities", lambda value: "neutral")


def token_chart(histogram: Histogram) -> Chart:
    """Draw tokens by what a dictionary misses of them, or by how many features fire, on a linear axis of counts."""
    chart = _chart(histogram, "errors", lambda value: "neutral")
    return replace(chart, bars=tuple(replace(bar, height=bar.linear_height) for bar in chart.bars))


def median_of(histogram: Histogram) -> float:
    """Return where half of what a histogram counts lies below, inside its bin in proportion."""
    half, below = sum(histogram.counts) / 2, 0
    for (low, high), count in zip(_bins(histogram), histogram.counts, strict=True):
        if count and below + count >= half:
            return low + (high - low) * (half - below) / count
        below += count
    return 0.0


def density_figure(histogram: Histogram) -> dict[str, Any]:
    """Return a Plotly figure of the same; its x axis is logarithmic and its bars can be brushed."""
    return {
        "data": [
            {
                "type": "bar",
                "x": [(low + high) / 2 for low, high in _bins(histogram)],
                "y": list(histogram.counts),
                "width": [0.94 * (high - low) for low, high in _bins(histogram)],
                "customdata": [[low, high] for low, high in _bins(histogram)],
                "hovertemplate": "%{y} features, %{customdata[0]:.3~g} to %{customdata[1]:.3~g}<extra></extra>",
            }
        ],
        "layout": {
            "xaxis": {
                "type": "log" if histogram.log_x else "linear",
                "dtick": 1 if histogram.log_x else None,
                "title": {"text": "share of tokens that fire"},
            },
            "yaxis": {"title": {"text": "features"}},
            "bargap": 0.04,
            "dragmode": "select",
            "selectdirection": "h",
            "margin": {"l": 48, "r": 8, "t": 8, "b": 40},
        },
    }


def density_width(density: float, *, floor: float = 1e-6) -> float:
    """Return 0 to 100: the place of a density on a logarithmic axis from `floor` to 1, for the sparks of lists."""
    if density <= 0:
        return 0.0
    return round(100 * max(0.02, min(1.0, 1 - math.log10(density) / math.log10(floor))), 1)


def _chart(histogram: Histogram, name: str, css: Any) -> Chart:
    bins = _bins(histogram)
    if not bins:
        return Chart(bars=(), ticks=(), low=0.0, high=1.0, log_x=False, name=name, total=0)
    top = max(max(histogram.counts), 1)
    width = 300.0 / len(bins)
    bars = tuple(
        Bar(
            x=round(i * width, 2),
            width=round(width * 0.9, 2),
            height=_height(math.log1p(count) / math.log1p(top), count),
            linear_height=_height(count / top, count),
            css=css(_middle(low, high, histogram.log_x)),
            low=low,
            high=high,
            count=count,
        )
        for i, ((low, high), count) in enumerate(zip(bins, histogram.counts, strict=True))
    )
    low, high = histogram.edges[0], histogram.edges[-1]
    return Chart(
        bars=bars,
        ticks=_ticks(histogram),
        low=low,
        high=high,
        log_x=histogram.log_x,
        name=name,
        total=sum(histogram.counts),
    )


def _height(share: float, count: int) -> float:
    return round(max(1.5, HEIGHT * share), 2) if count else 0.0


def _bins(histogram: Histogram) -> list[tuple[float, float]]:
    return list(zip(histogram.edges, histogram.edges[1:], strict=False))


def _middle(low: float, high: float, log_x: bool) -> float:
    return math.sqrt(low * high) if log_x and low > 0 else (low + high) / 2


def _ticks(histogram: Histogram) -> tuple[Tick, ...]:
    edges: Sequence[float] = histogram.edges
    if not histogram.log_x and edges[0] < 0 < edges[-1]:
        zero = 300 * -edges[0] / (edges[-1] - edges[0])
        middle = [Tick(x=zero, text="0")] if 40 < zero < 260 else []
    else:
        middle = [Tick(x=150.0, text=_short(edges[len(edges) // 2]))]
    return (Tick(x=0.0, text=_short(edges[0])), *middle, Tick(x=300.0, text=_short(edges[-1])))


def _short(value: float) -> str:
    return f"{value:.3g}" if value == 0 or 1e-3 <= abs(value) < 1e4 else f"{value:.0e}".replace("e-0", "e-")
