"""Colour ramps for token activations: OKLab interpolation of the design's five stops into 21 levels.

`python -m explorer.ramps` prints the stylesheet static/css/ramps.css; a test fails when the committed file differs.
Levels are classes p0..p20 (positive, amber) and n0..n20 (negative, blue); the light and the dark ramps are separate
designs, not inversions. Source of the conversion: Björn Ottosson, "A perceptual color space for image processing".
"""

from __future__ import annotations

import math
import sys

LEVELS = 20
STOPS: dict[str, dict[str, tuple[str, ...]]] = {
    "light": {
        "p": ("#ffffff", "#fff3d6", "#ffe0a3", "#ffc861", "#ffab1a"),
        "n": ("#ffffff", "#e3eefb", "#bcd7f5", "#8abaee", "#559de6"),
    },
    "dark": {
        "p": ("#14171c", "#2b2415", "#483717", "#664b16", "#845f14"),
        "n": ("#14171c", "#17283b", "#1a3d5c", "#1b527e", "#1c67a1"),
    },
}
INK = {"light": "#1b1f24", "dark": "#f2f4f7"}

Triple = tuple[float, float, float]


def activation_level(value: float, maximum: float) -> int:
    """Return the ramp level, 0 to 20, of |value| on a square-root scale that ends at `maximum`.

    The root keeps weak activations apart from none and from strong ones; every non-zero value gets at least level 1.
    """
    if value == 0 or maximum <= 0:
        return 0
    return max(1, min(LEVELS, round(LEVELS * math.sqrt(abs(value) / maximum))))


def contrast(first: str, second: str) -> float:
    """Return the WCAG 2 contrast ratio of two hex colours."""
    lighter, darker = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def ramp(stops: tuple[str, ...]) -> list[str]:
    """Interpolate stops in OKLab into LEVELS + 1 hex colours."""
    points = [_to_oklab(stop) for stop in stops]
    colours = []
    for level in range(LEVELS + 1):
        place = level / LEVELS * (len(points) - 1)
        left = min(int(place), len(points) - 2)
        share = place - left
        mixed = tuple(a + (b - a) * share for a, b in zip(points[left], points[left + 1], strict=True))
        colours.append(_to_hex(mixed))
    return colours


def stylesheet() -> str:
    """Return the whole of ramps.css."""
    light, dark = ("".join(_declarations(theme)) for theme in ("light", "dark"))
    classes = "".join(
        f"  .{sign}{level} {{ --fill: var(--{sign}-{level}); }}\n" for sign in "pn" for level in range(LEVELS + 1)
    )
    return (
        "/* Made by `python -m explorer.ramps`; change the stops there. */\n"
        "@layer tokens {\n"
        f"  :root {{\n{light}  }}\n"
        f"  @media (prefers-color-scheme: dark) {{\n  :root:not([data-theme='light']) {{\n{dark}  }}\n  }}\n"
        f"  :root[data-theme='dark'] {{\n{dark}  }}\n"
        "}\n"
        f"@layer ramps {{\n{classes}}}\n"
    )


def _declarations(theme: str) -> list[str]:
    return [
        f"    --{sign}-{level}: {colour};\n" for sign in "pn" for level, colour in enumerate(ramp(STOPS[theme][sign]))
    ]


def _linear(hex_colour: str) -> Triple:
    channels = (int(hex_colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return red, green, blue


def _luminance(hex_colour: str) -> float:
    red, green, blue = _linear(hex_colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _to_oklab(hex_colour: str) -> Triple:
    red, green, blue = _linear(hex_colour)
    long = (0.4122214708 * red + 0.5363325363 * green + 0.0514459929 * blue) ** (1 / 3)
    medium = (0.2119034982 * red + 0.6806995451 * green + 0.1073969566 * blue) ** (1 / 3)
    short = (0.0883024619 * red + 0.2817188376 * green + 0.6299787005 * blue) ** (1 / 3)
    return (
        0.2104542553 * long + 0.7936177850 * medium - 0.0040720468 * short,
        1.9779984951 * long - 2.4285922050 * medium + 0.4505937099 * short,
        0.0259040371 * long + 0.7827717662 * medium - 0.8086757660 * short,
    )


def _to_hex(lab: tuple[float, ...]) -> str:
    lightness, a, b = lab
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )
    channels = (12.92 * c if c <= 0.0031308 else 1.055 * c ** (1 / 2.4) - 0.055 for c in linear)
    return "#" + "".join(f"{round(255 * min(1.0, max(0.0, c))):02x}" for c in channels)


if __name__ == "__main__":
    sys.stdout.write(stylesheet())
