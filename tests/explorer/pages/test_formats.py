"""Numbers and times as pages show them."""

from datetime import timedelta

import pytest
from django.utils import timezone

from explorer import figures
from explorer.templatetags import facet


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0, "0"),
        (12345.6, "12,346"),
        (3.14159, "3.14"),
        (2.0, "2.00"),
        (0.000012, "1.20e-5"),
        (-0.5, "−0.500"),
    ],
)
def test_figures_have_three_digits(value, text):
    assert figures.figure(value) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (None, "–"),
        (0, "0 %"),
        (0.5, "50 %"),
        (0.9997, "99.97 %"),
        (0.0000001, "1.0e-5 %"),
        (-5.658, "−565.8 %"),
        (0.00421, "0.421 %"),
    ],
)
def test_percentages(share, text):
    assert figures.percent(share) == text


@pytest.mark.parametrize(
    ("n", "text"), [(None, "–"), (950, "950"), (2048, "2,048"), (12_345, "12.3k"), (1_048_576, "1.05M")]
)
def test_counts(n, text):
    assert figures.compact(n) == text


@pytest.mark.parametrize(("seconds", "text"), [(None, "–"), (45, "45 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")])
def test_durations(seconds, text):
    assert figures.duration(seconds) == text


def test_times_are_told_in_their_largest_unit():
    assert facet.ago(None) == "never"
    assert facet.ago(timezone.now()) == "just now"
    assert facet.ago(timezone.now() - timedelta(hours=3, minutes=20)) == "3 h ago"


def test_signs_are_true_minus_signs():
    assert figures.signed(1.5) == "+1.50" and figures.signed(-1.5) == "−1.50" and figures.signed(0.0) == "0"
