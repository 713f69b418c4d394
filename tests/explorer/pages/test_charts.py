"""Charts: bars, ticks and figures from histograms, empty ones too."""

import pytest

from explorer import charts, patterns
from features.results import Histogram


def test_bars_wear_the_colours_of_tokens():
    chart = charts.activation_chart(Histogram(edges=(0.0, 1.0, 4.0), counts=(9, 1)), 4.0)
    assert [bar.css for bar in chart.bars] == ["p7", "p16"]
    assert chart.bars[0].height == 100.0
    assert chart.bars[1].linear_height == pytest.approx(11.11)


def test_suppressed_logits_are_blue_and_promoted_ones_amber():
    chart = charts.logit_chart(Histogram(edges=(-1.0, 0.0, 1.0), counts=(2, 2)))
    assert [bar.css[0] for bar in chart.bars] == ["n", "p"]
    assert [tick.text for tick in chart.ticks] == ["-1", "0", "1"]


@pytest.mark.parametrize("draw", [charts.logit_chart, charts.density_chart, lambda h: charts.activation_chart(h, 0.0)])
def test_empty_histograms_draw_nothing(draw):
    chart = draw(Histogram(edges=(), counts=()))
    assert chart.bars == () and chart.rectangles == "" and chart.table_rows == ""


def test_the_table_twin_has_every_count():
    chart = charts.density_chart(patterns.densities())
    assert chart.table_rows.count("<tr>") == sum(count > 0 for count in patterns.densities().counts)


def test_the_figure_spans_its_bins_on_a_logarithmic_axis():
    histogram = Histogram(edges=(1e-4, 1e-3, 1e-2), counts=(5, 7), log_x=True)
    trace = charts.density_figure(histogram)["data"][0]
    assert trace["y"] == [5, 7]
    assert trace["customdata"] == [[1e-4, 1e-3], [1e-3, 1e-2]]
    assert all(x - w / 2 >= low for x, w, (low, _) in zip(trace["x"], trace["width"], trace["customdata"], strict=True))


@pytest.mark.parametrize(("density", "width"), [(0.0, 0.0), (1.0, 100.0), (1e-3, 50.0), (1e-9, 2.0)])
def test_sparks_place_densities_on_a_logarithmic_axis(density: float, width: float):
    assert charts.density_width(density) == width
