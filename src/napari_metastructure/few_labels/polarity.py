"""Whether structures are brighter or darker than what surrounds them, told by the images alone."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_metastructure.arrays.intensity import unit_range
from napari_metastructure.few_labels.filters import locally_normalised
from napari_metastructure.few_labels.optics import has_halos

__all__ = ["CLEAR", "background_is_larger", "decisive", "local_skewness", "polarity"]

CLEAR = 0.3
"""Local skewness below which, in size, the polarity is not known."""

_LARGE = 0.5  # fine skewness


def background_is_larger(mask: ArrayLike) -> NDArray:
    """The mask, inverted where more than half of it is foreground (the paper's polarity rule)."""
    mask = np.asarray(mask)
    return mask if 2 * np.count_nonzero(mask) <= mask.size else (mask == 0).astype(mask.dtype)


def local_skewness(images: Sequence[ArrayLike]) -> tuple[float, float]:
    """Skewness of the locally normalised images, fine and coarse: above 0 for bright structures.

    Objects take less room than what surrounds them, so they are the longer tail of the
    intensities. Uneven light has a tail of its own; subtracting the local mean and dividing by
    the local deviation takes it away. Where objects take half of the image there is no tail, and
    the skewness says nothing. Noise hides the tail from the fine one, uneven light from the
    coarse one.

    Parameters
    ----------
    images : sequence of arrays
        Planes or volumes of any real type; constant ones do not count.

    Returns
    -------
    fine, coarse : float
        Medians over the images. Fine: Gaussians of 20 pixels, after one of 1 pixel; coarse: of
        60, after one of 2. 0 if nothing speaks for either polarity.
    """
    from scipy.ndimage import gaussian_filter

    found = []
    for image in images:
        scaled = unit_range(image, "bright")
        if scaled is None:
            continue
        third = gaussian_filter(scaled, 2)[(slice(None, None, 3),) * scaled.ndim]
        found.append([_skewness(gaussian_filter(scaled, 1)), _skewness(third)])
    fine, coarse = np.median(found, axis=0) if found else (0.0, 0.0)
    return float(fine), float(coarse)


def _skewness(image):
    """That of the locally normalised image; 0 for a constant one."""
    pixels = locally_normalised(image)
    centred = pixels - pixels.mean(dtype=float)
    deviation = centred.std(dtype=float)
    return float(np.mean((centred / deviation) ** 3, dtype=float)) if deviation > 0 else 0.0


def decisive(fine: float, coarse: float) -> float:
    """The skewness to go by, of a `local_skewness`: the fine one where it is large, else the mean,
    or 0 if they contradict each other.

    Noise makes the fine one small, uneven light the coarse one large.
    """
    if abs(fine) >= _LARGE:
        return fine
    return (fine + coarse) / 2 if fine * coarse > 0 else 0.0


def polarity(images: Sequence[ArrayLike]) -> str:
    """Whether the structures of an image set are bright or dark: the sign of the `decisive` of
    their `local_skewness`; dark in bright halos.

    Parameters
    ----------
    images : sequence of arrays

    Returns
    -------
    {"bright", "dark"}
        "bright" if nothing speaks for either.
    """
    dark = decisive(*local_skewness(images)) < 0 or has_halos(images)
    return "dark" if dark else "bright"
