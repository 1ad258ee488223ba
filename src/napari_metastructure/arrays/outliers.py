"""Which pixel values say nothing of an image: hot and dead pixels, saturated corners, padding."""

import numpy as np

__all__ = ["limits", "sample"]

_SAMPLE = 2**14  # pixels
_QUANTILES = 0.01, 0.99
_REACH = 10.0  # beyond the quantiles, in their distance from each other
_PADDING_GAP = 0.5  # between the padding and the next value, in the same unit
_MOST_PADDING = 0.5  # of all pixels; more of one value is the background


def sample(pixels: np.ndarray) -> np.ndarray:
    """About 2**14 pixels spread evenly over the last axis (of the whole array if it is 1-D)."""
    step = pixels.shape[-1] // _SAMPLE
    return pixels[..., :: step | 1 if step > 1 else 1]


def limits(pixels: np.ndarray) -> tuple[float, float]:
    """The smallest and the largest value that is no outlier.

    Parameters
    ----------
    pixels : (n,) array of real numbers
        A sample of an image, see `sample`. NaN and infinity are left out.

    Returns
    -------
    low, high : float
        A value below or above is an outlier: farther from 98 % of the pixels than ten times their
        range, or, as padding at the borders, one lowest value that at most half of the pixels
        share, with a gap above it of half of that range. Infinite where nothing can be told, as in
        a constant image.
    """
    pixels = pixels[np.isfinite(pixels)].astype(float)
    if not len(pixels):
        return -np.inf, np.inf
    inner = pixels[~_is_large_share(pixels, pixels.min()) & ~_is_large_share(pixels, pixels.max())]
    if not len(inner):
        return -np.inf, np.inf
    lowest, highest = np.quantile(inner, _QUANTILES)
    width = highest - lowest
    if width == 0:
        return -np.inf, np.inf
    low, high = lowest - _REACH * width, highest + _REACH * width
    if inner.min() - pixels.min() > _PADDING_GAP * width:
        low = max(low, float(inner.min()))
    return float(low), float(high)


def _is_large_share(pixels, value):
    """Where pixels have a value, if more do than the quantiles leave out, yet no majority."""
    same = pixels == value
    share = same.mean()
    return same & (1 - _QUANTILES[1] <= share <= _MOST_PADDING)
