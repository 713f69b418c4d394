"""Ramps: the committed stylesheet, and the contrasts that the design promises."""

from pathlib import Path

import pytest

from explorer import ramps

STYLES = Path(__file__).parents[3] / "static" / "css"


def test_the_committed_stylesheet_is_current():
    assert (STYLES / "ramps.css").read_text() == ramps.stylesheet(), (
        "run: python -m explorer.ramps > static/css/ramps.css"
    )


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("sign", ["p", "n"])
def test_ink_is_readable_on_every_level(theme: str, sign: str):
    colours = ramps.ramp(ramps.STOPS[theme][sign])
    assert len(colours) == ramps.LEVELS + 1
    assert min(ramps.contrast(ramps.INK[theme], colour) for colour in colours) >= 4.5


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("sign", ["p", "n"])
def test_the_stops_of_the_design_are_kept(theme: str, sign: str):
    colours = ramps.ramp(ramps.STOPS[theme][sign])
    assert [colours[i] for i in (0, 5, 10, 15, 20)] == list(ramps.STOPS[theme][sign])


def test_levels_are_a_square_root_scale_with_a_floor_and_a_ceiling():
    assert ramps.activation_level(0.0, 4.0) == 0
    assert ramps.activation_level(1e-9, 4.0) == 1
    assert ramps.activation_level(1.0, 4.0) == 10
    assert ramps.activation_level(4.0, 4.0) == ramps.activation_level(9.0, 4.0) == 20
    assert ramps.activation_level(-1.0, 4.0) == 10
    assert ramps.activation_level(1.0, 0.0) == 0
