"""What the way of imaging does to structures, told by the images alone: stains, halos, relief.

There the usual rule, that objects are the rarer intensities, does not tell bright from dark.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from napari_metastructure.arrays.blocks import evenly
from napari_metastructure.arrays.intensity import unit_range
from napari_metastructure.few_labels.filters import above_threshold, off_background, shrunk

__all__ = ["has_halos", "is_relief", "is_stained"]

_MOST_LOOKED_AT, _SIDE = 12, 256  # images, and pixels a side
_LIT = 127  # brightness that the brightest pixels exceed where light passes
_AGAINST = -0.5  # correlation of brightness and colour: stains had -0.9 to -0.6, others above 0
_RIM, _CORE = 3, 4  # pixels from the outline, at most and at least
_BRIGHT_RIM, _DARKER_CORE = 0.5, 0.75  # of halos at least 0.6 and 0.8
_DARK_CORE = -0.05  # of halos at most -0.3, in the median; of bright rims around nothing above 0.3
_BALANCED = 0.28  # least share of the texture that is brighter, and darker; of relief 0.31 to 0.46
_OFFSET = 0.18  # of texture from background, over its deviation; of relief at most 0.13
_SMOOTH = 0.18  # variance of the background over that of texture; of relief at most 0.14


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


def has_halos(images: Sequence[ArrayLike]) -> bool:
    """Whether structures are dark bodies in bright halos, as in positive phase contrast.

    Halos may be larger and stand out more than the bodies, so that the intensities' tail is theirs.
    But they lie outside: where the images change much, the rim is brighter than the background and
    the core darker.

    Parameters
    ----------
    images : sequence of arrays, (y, x) or (z, y, x)
        Of any real type; constant ones do not count. Medians over at most a dozen of them decide;
        of volumes, their middle sections.
    """
    rim, core = _medians(_rim_and_core, images, 2)
    return rim > _BRIGHT_RIM and core < min(rim - _DARKER_CORE, _DARK_CORE)


def is_relief(images: Sequence[ArrayLike]) -> bool:
    """Whether structures are as often brighter as darker than a smooth background.

    So they are in differential interference contrast, where one side of an object is bright and
    the other dark, and in phase contrast of thin cells. No polarity finds them; their texture does.

    Parameters
    ----------
    images : sequence of arrays, (y, x) or (z, y, x)
        Of any real type; constant ones do not count. Medians over at most a dozen of them decide;
        of volumes, their middle sections.
    """
    offset, roughness, brighter, darker = _medians(_balance, images, 4)
    return offset < _OFFSET and roughness < _SMOOTH and min(brighter, darker) > _BALANCED


def _medians(measure, images, count):
    """Medians of what a function measures on images that vary; NaN, which fits nothing, if none."""
    chosen = (np.asarray(image) for image in evenly(images, _MOST_LOOKED_AT))
    sections = (image if image.ndim == 2 else image[len(image) // 2] for image in chosen)
    scaled = (unit_range(section, "bright") for section in sections)
    found = [measure(image) for image in scaled if image is not None]
    return np.median(found, axis=0) if found else np.full(count, np.nan)


def _rim_and_core(image):
    """Share of clearly brighter pixels minus that of clearly darker ones, against the background,
    at the rim and in the core of what changes much.
    """
    from scipy.ndimage import distance_transform_edt

    changing, off = off_background(image)
    objects = shrunk(changing)
    depth = distance_transform_edt(np.pad(objects, 1, mode="edge"))[1:-1, 1:-1]
    parts = off[objects & (depth <= _RIM)], off[depth > _CORE]
    return [float(np.mean(part > 1) - np.mean(part < -1)) if part.size else 0.0 for part in parts]


def _balance(image):
    """Difference of the means of texture and background over the deviation of the texture,
    variance of the background over that of the texture, and the shares of the texture that are
    clearly brighter, and darker, than the background; slow changes of brightness do not count.
    """
    from scipy.ndimage import gaussian_filter

    mean = gaussian_filter(image, 2)
    deviation = np.sqrt(np.maximum(gaussian_filter(image * image, 2) - mean * mean, 0))
    texture, smooth = above_threshold(deviation, "otsu"), gaussian_filter(image, 1)
    flat = smooth - gaussian_filter(smooth, 20)
    inside, outside = flat[texture], flat[~texture]
    if not inside.size or not inside.var():
        return [1.0, 1.0, 0.0, 0.0]
    off = (inside - np.median(outside)) / max(float(outside.std()), 1e-12)
    return [
        abs(inside.mean() - outside.mean()) / inside.std(),
        outside.var() / inside.var(),
        np.mean(off > 1),
        np.mean(off < -1),
    ]
