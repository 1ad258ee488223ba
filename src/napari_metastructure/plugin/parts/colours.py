"""Colours of curves and marks: told apart by colour-blind eyes, and seen on light and dark."""

from collections.abc import Iterable
from itertools import cycle

__all__ = ["CLASSES", "COLOURS", "FAINT", "in_colours"]

COLOURS = ("#56b4e9", "#e69f00", "#009e73", "#d55e00", "#cc79a7")
"""Sky blue, orange, bluish green, vermilion, purple (Okabe and Ito, 2008)."""

CLASSES = ("#56b4e9", "#e69f00", "#cc79a7", "#009e73", "#d55e00", "#f0e442", "#0072b2", "#ffffff")
"""The same with yellow, blue and white; two warm or two cold ones do not follow each other."""

FAINT = (128, 128, 128, 110)
"""Red, green, blue and opacity of bands behind curves."""


def in_colours(names: Iterable[str]) -> str:
    """HTML of the names of curves, each in the colour of its curve."""
    words = (f"<span style='color: {c}'>{name}</span>" for name, c in zip(names, cycle(COLOURS)))
    return " · ".join(words)
