"""Intensities brought to a common range."""

from typing import Any

import numpy as np

from napari_metastructure.arrays.blocks import as_array

__all__ = ["unit_range"]


def unit_range(image: Any, polarity: Any) -> Any:
    """The image from 0 to 1, structures bright; None if it is constant."""
    image = np.asarray(as_array(image), dtype=np.float32)
    low, high = float(image.min()), float(image.max())
    if not np.isfinite(low + high):
        raise ValueError("The image holds NaN or infinity; replace these pixels first.")
    if high <= low:
        return None
    image = (image - low) / (high - low)
    return 1 - image if polarity == "dark" else image
