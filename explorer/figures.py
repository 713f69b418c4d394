"""Numbers as pages write them: three significant figures, units, a true minus, and what stands for a missing one."""

from __future__ import annotations


def figure(value: float | None) -> str:
    """Format with three significant figures, thousands grouped; missing values are an en dash."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    if value < 0:
        return f"−{figure(-value)}"
    if value >= 1000:
        return f"{value:,.0f}"
    if value < 1e-4:
        return f"{value:.2e}".replace("e-0", "e-")
    digits = f"{value:#.3g}"
    return digits.rstrip(".") if "e" not in digits else f"{value:.3g}"


def signed(value: float) -> str:
    """Format like `figure`, with a sign."""
    return f"{'+' if value > 0 else ''}{figure(value)}"


def percent(share: float | None) -> str:
    """Format a share in [0, 1] as a percentage with three significant figures."""
    if share is None:
        return "–"
    if share == 0:
        return "0 %"
    if share < 0:
        return f"−{percent(-share)}"
    scaled = share * 100
    if scaled < 0.001:
        return f"{scaled:.1e} %".replace("e-0", "e-")
    return f"{scaled:.3g} %" if scaled < 99.95 else f"{scaled:,.4g} %" if scaled < 1000 else f"{scaled:,.0f} %"


def compact(count: float | None) -> str:
    """Format a count shortly: 950, 12.3k, 1.05M."""
    if count is None:
        return "–"
    for limit, divisor, suffix in ((1e9, 1e9, "B"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(count) >= limit:
            return f"{count / divisor:.3g}{suffix}"
    return f"{count:,.0f}"


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
