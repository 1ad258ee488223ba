"""Whether structures are brighter or darker than what surrounds them, told by the images alone."""

import numpy as np

__all__ = ["background_is_larger", "polarity"]


def background_is_larger(mask):
    """The mask, inverted where more than half of it is foreground (the paper's polarity rule)."""
    mask = np.asarray(mask)
    return mask if 2 * np.count_nonzero(mask) <= mask.size else (mask == 0).astype(mask.dtype)


def polarity(images):
    """Whether the structures of an image set are bright or dark.

    Objects take less room than background, so they are the longer tail of the intensities: the
    sign of the median of the images' skewness.

    Parameters
    ----------
    images : sequence of arrays

    Returns
    -------
    {"bright", "dark"}
        "bright" if nothing speaks for either.
    """
    skewness = []
    for image in images:
        pixels = np.asarray(image, dtype=np.float32)
        centred = pixels - pixels.mean(dtype=float)
        deviation = centred.std(dtype=float)
        if deviation > 0:
            skewness.append(float(np.mean((centred / deviation) ** 3, dtype=float)))
    return "dark" if skewness and np.median(skewness) < 0 else "bright"
