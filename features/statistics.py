"""Numbers that pages derive from stored sums and counts."""

from __future__ import annotations

import math
from typing import NamedTuple

Z95 = 1.959963984540054


class Moments(NamedTuple):
    """Mean and standard deviation over firing tokens; skewness and excess kurtosis, None where they do not exist."""

    mean: float
    deviation: float
    skewness: float | None
    kurtosis: float | None


def wilson_interval(successes: int, n: int, z: float = Z95) -> tuple[float, float]:
    """Return the Wilson score interval of a share (Wilson 1927); (0, 1) without observations."""
    if n <= 0:
        return 0.0, 1.0
    share = successes / n
    centre = share + z * z / (2 * n)
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low = 0.0 if successes == 0 else max(0.0, (centre - spread) / scale)
    high = 1.0 if successes == n else min(1.0, (centre + spread) / scale)
    return low, high


def moments(n: int, total: float, total_2: float, total_3: float, total_4: float) -> Moments:
    """Return the moments of n values from the sums of their first four powers.

    Skewness and kurtosis need three and four values that differ by more than rounding.
    """
    if n <= 0:
        return Moments(0.0, 0.0, None, None)
    mean = total / n
    raw_2, raw_3, raw_4 = total_2 / n, total_3 / n, total_4 / n
    variance = max(0.0, raw_2 - mean * mean)
    deviation = math.sqrt(variance)
    if variance <= 1e-9 * raw_2:
        return Moments(mean, deviation, None, None)
    third = raw_3 - 3 * mean * raw_2 + 2 * mean**3
    fourth = raw_4 - 4 * mean * raw_3 + 6 * mean**2 * raw_2 - 3 * mean**4
    skewness = third / deviation**3 if n >= 3 else None
    kurtosis = fourth / variance**2 - 3 if n >= 4 else None
    return Moments(mean, deviation, skewness, kurtosis)
