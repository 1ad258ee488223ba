"""Colours of curves and marks: told apart by colour-blind eyes, and seen on light and dark."""

__all__ = ["COLOURS", "FAINT"]

COLOURS = ("#56b4e9", "#e69f00", "#009e73", "#d55e00", "#cc79a7")
"""Sky blue, orange, bluish green, vermilion, purple (Okabe and Ito, 2008)."""

FAINT = (128, 128, 128, 70)
"""Red, green, blue and opacity of bands behind curves."""
