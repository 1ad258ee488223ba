"""Whether structures are brighter or darker than what surrounds them, told by the images alone."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_metastructure.arrays.blocks import evenly
from napari_metastructure.arrays.intensity import unit_range
from napari_metastructure.few_labels.filters import cut, locally_normalised

__all__ = [
    "CLEAR",
    "background_is_larger",
    "decisive",
    "is_relief",
    "is_stained",
    "local_skewness",
    "polarity",
]

CLEAR = 0.3
"""Local skewness below which, in size, the polarity is not known."""

_LARGE = 0.5  # fine skewness
_MOST_LOOKED_AT, _SIDE = 12, 256  # images, and pixels a side
_LIT = 127  # brightness that the brightest pixels exceed where light passes
_BALANCED = 0.28  # least share of the textured pixels that is clearly brighter, and darker
_OFFSET, _SMOOTH = 0.18, 0.18  # of texture and background: difference of means, and variances
_AGAINST = -0.5  # correlation of brightness and colour: stains had -0.9 to -0.6, others above 0


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


def is_stained(images: Sequence[ArrayLike]) -> bool:
    """Whether colour images show stained structures in light that passes through them.

    Light that passes beside them has no colour, and the more stain it passes, the darker and the
    more coloured it gets: brightness and colour (the range of the channels) go against each
    other. In fluorescence they go together. So the polarity of stained structures is dark.

    Parameters
    ----------
    images : sequence of arrays of uint8, (3, y, x)
        Anything else is not stained. At most a dozen, evenly spread, are looked at.
    """
    chosen, found = evenly(images, _MOST_LOOKED_AT), []
    for image in chosen:
        if image.ndim != 3 or len(image) != 3 or image.dtype != np.uint8:
            return False
        step = -(-max(image.shape) // _SIDE)
        pixels = np.asarray(image[:, ::step, ::step]).reshape(3, -1).astype(float)
        brightness, colour = pixels.mean(axis=0), np.ptp(pixels, axis=0)
        if np.quantile(brightness, 0.95) > _LIT and brightness.std() > 0 and colour.std() > 0:
            found.append(np.corrcoef(brightness, colour)[0, 1])
    return len(found) > len(chosen) / 2 and float(np.median(found)) < _AGAINST


def is_relief(images: Sequence[ArrayLike]) -> bool:
    """Whether structures are as often brighter as darker than a smooth background.

    So they are in differential interference contrast, where one side of an object is bright and
    the other dark, and in phase contrast with halos. No polarity finds them; their texture does.

    Parameters
    ----------
    images : sequence of arrays, (y, x)
        Of any real type; constant ones do not count. Medians over the images decide.
    """
    scaled = (unit_range(image, "bright") for image in images)
    found = [_relief(image) for image in scaled if image is not None]
    if not found:
        return False
    offset, roughness, brighter, darker = np.median(found, axis=0)
    return offset < _OFFSET and roughness < _SMOOTH and min(brighter, darker) > _BALANCED


def _relief(image):
    """Texture against background, in the flattened image: difference of the means over the
    texture's deviation, variance of the background over that of the texture, and how much of the
    texture is brighter, and darker, than the background by more than its deviation.
    """
    from scipy.ndimage import gaussian_filter

    mean = gaussian_filter(image, 2)
    deviation = np.sqrt(np.maximum(gaussian_filter(image * image, 2) - mean * mean, 0))
    textured = cut(deviation, "otsu")
    smooth = gaussian_filter(image, 1)
    flat = smooth - gaussian_filter(smooth, 20)
    inside, outside = flat[textured], flat[~textured]
    if not inside.size or not inside.var():
        return 1.0, 1.0, 0.0, 0.0
    off = (inside - np.median(outside)) / max(float(outside.std()), 1e-12)
    return (
        abs(inside.mean() - outside.mean()) / inside.std(),
        outside.var() / inside.var(),
        np.mean(off > 1),
        np.mean(off < -1),
    )


def polarity(images: Sequence[ArrayLike]) -> str:
    """Whether the structures of an image set are bright or dark: the sign of the `decisive` of
    their `local_skewness`.

    Parameters
    ----------
    images : sequence of arrays

    Returns
    -------
    {"bright", "dark"}
        "bright" if nothing speaks for either.
    """
    return "dark" if decisive(*local_skewness(images)) < 0 else "bright"
