"""Whether structures are brighter or darker than what surrounds them, told by the images alone."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_metastructure.arrays.intensity import unit_range
from napari_metastructure.few_labels.filters import locally_normalised

__all__ = ["CLEAR", "background_is_larger", "local_skewness", "polarity"]

CLEAR = 0.3
"""Local skewness below which, in size, the polarity is not known."""


def background_is_larger(mask: ArrayLike) -> NDArray:
    """The mask, inverted where more than half of it is foreground (the paper's polarity rule)."""
    mask = np.asarray(mask)
    return mask if 2 * np.count_nonzero(mask) <= mask.size else (mask == 0).astype(mask.dtype)


def local_skewness(images: Sequence[ArrayLike]) -> float:
    """Skewness of the locally normalised images, their median: above 0 for bright structures.

    Objects take less room than what surrounds them, so they are the longer tail of the
    intensities. Uneven light has a tail of its own; subtracting the local mean and dividing by
    the local deviation (Gaussians of 20 pixels, after one of 1 pixel) takes it away. Where
    objects take half of the image there is no tail, and the skewness says nothing.

    Parameters
    ----------
    images : sequence of arrays
        Planes or volumes of any real type; constant ones do not count.

    Returns
    -------
    float
        0 if nothing speaks for either polarity.
    """
    from scipy.ndimage import gaussian_filter

    skewness = []
    for image in images:
        scaled = unit_range(image, "bright")
        if scaled is None:
            continue
        pixels = locally_normalised(gaussian_filter(scaled, 1))
        centred = pixels - pixels.mean(dtype=float)
        deviation = centred.std(dtype=float)
        if deviation > 0:
            skewness.append(float(np.mean((centred / deviation) ** 3, dtype=float)))
    return float(np.median(skewness)) if skewness else 0.0


def polarity(images: Sequence[ArrayLike]) -> str:
    """Whether the structures of an image set are bright or dark: the sign of `local_skewness`.

    Parameters
    ----------
    images : sequence of arrays

    Returns
    -------
    {"bright", "dark"}
        "bright" if nothing speaks for either.
    """
    return "dark" if local_skewness(images) < 0 else "bright"
