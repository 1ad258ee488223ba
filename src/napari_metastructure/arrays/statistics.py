"""Statistics of an image's pixels: mean and standard deviation for the z-score."""

import numpy as np

from napari_metastructure.arrays.chunks import ChunkedArray

__all__ = ["channel_moments", "moments"]


def moments(image):
    """Mean and standard deviation of an image (1 where it is constant), for the z-score.

    Raises
    ------
    ValueError
        If the image holds NaN or infinity.
    """
    if isinstance(image, ChunkedArray):
        mean, deviation = image.statistics()
    else:
        mean, deviation = float(image.mean(dtype=float)), float(image.std(dtype=float))
    if not np.isfinite(mean + deviation):
        raise ValueError("The image holds NaN or infinity; replace these pixels first.")
    return mean, deviation or 1.0


def channel_moments(image, spatial_dims=2):
    """`moments` of a plane or volume; of each channel, as arrays (c, 1, 1), if it has a first axis
    for them.
    """
    if image.ndim == spatial_dims:
        return moments(image)
    shape = (-1,) + (1,) * spatial_dims
    both = zip(*(moments(channel) for channel in image))
    return tuple(np.array(values, np.float32).reshape(shape) for values in both)
