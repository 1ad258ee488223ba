"""Mean and deviation of images, by which they are normalised; outliers and missing pixels apart."""

from typing import Any

import numpy as np

from napari_metastructure.arrays.chunks import ChunkedArray
from napari_metastructure.arrays.outliers import limits, sample

__all__ = ["channel_moments", "moments", "normalised", "varies"]

_FARTHEST = 20.0  # deviations from the mean


def moments(image: Any, robust: bool = True) -> tuple[float, float]:
    """Mean and standard deviation of an image (1 where it is constant), for the z-score.

    Parameters
    ----------
    image : numpy array or ChunkedArray of real numbers
    robust : bool
        Leave out NaN, infinity and outliers such as hot pixels, saturated corners and padding, see
        `outliers.limits`. Without, all pixels count, as in models saved by earlier versions.

    Raises
    ------
    ValueError
        If no pixel is left, or without `robust` the image holds NaN or infinity.
    """
    if isinstance(image, ChunkedArray):
        mean, deviation = image.statistics(robust)
    else:
        mean, deviation = _moments(np.asarray(image).ravel(), robust)
    if not np.isfinite(mean + deviation):
        only = "only " if robust else ""
        raise ValueError(f"The image holds {only}NaN or infinity; replace these pixels first.")
    return mean, deviation or 1.0


def _moments(pixels, robust):
    if robust and pixels.dtype.kind == "f":
        finite = np.isfinite(pixels)
        pixels = pixels if finite.all() else pixels[finite]
        if not len(pixels):
            return np.nan, np.nan
    if robust:
        low, high = limits(sample(pixels))
        if pixels.min() < low or pixels.max() > high:
            pixels = pixels[(pixels >= low) & (pixels <= high)]
    with np.errstate(invalid="ignore"):  # NaN and infinity are told by the result
        return float(pixels.mean(dtype=float)), float(pixels.std(dtype=float))


def channel_moments(image: Any, spatial_dims: int = 2, robust: bool = True) -> tuple:
    """`moments` of a plane or volume; of each channel, as arrays (c, 1, 1), if it has a first axis
    for them.
    """
    if image.ndim == spatial_dims:
        return moments(image, robust)
    shape = (-1,) + (1,) * spatial_dims
    both = zip(*(moments(channel, robust) for channel in image))
    return tuple(np.array(values, np.float32).reshape(shape) for values in both)


def normalised(pixels: Any, mean: Any, deviation: Any, robust: bool = True) -> np.ndarray:
    """Pixels as float32 of zero mean and unit deviation, for moments taken of the whole image.

    Parameters
    ----------
    pixels : array of real numbers
    mean, deviation : float or array
        From `channel_moments`.
    robust : bool
        Outliers end 20 deviations from the mean, and missing pixels (NaN, infinity) become 0.
    """
    pixels = np.array(pixels, dtype=np.float32)
    pixels -= mean
    pixels /= deviation
    if robust:
        pixels[~np.isfinite(pixels)] = 0
        np.clip(pixels, -_FARTHEST, _FARTHEST, out=pixels)
    return pixels


def varies(image: Any) -> bool:
    """Whether an image has pixels of more than one value; a `ChunkedArray`, by its statistics."""
    if isinstance(image, ChunkedArray):
        return image.statistics()[1] != 0 or image.statistics(robust=False)[1] != 0
    return bool((image != image.flat[0]).any())
