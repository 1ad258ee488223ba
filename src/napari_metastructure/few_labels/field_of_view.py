"""The field of view in images with dark surroundings, as of a well, an eyepiece or an eye."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_metastructure.arrays.blocks import evenly

__all__ = ["MOST_PLANES", "field_of_view", "filled"]

MOST_PLANES = 12
"""That are looked at."""

_SIDE = 256  # pixels, at most, on which the field is looked for
_FEWEST = 3  # planes: one alone may show a large bright object
_NEARLY_ALL = 0.9  # of the planes
_LEAST_DARK, _LEAST_LIT = 0.03, 0.4  # shares of the pixels
_MOST_UNSURE = 0.2  # dark on some planes and lit on others: objects, no surroundings
_ERODED = 3  # pixels of the coarse grid, for the blurred rim
_REACH = 1 / 25  # of the side: how far the values at the rim are carried outwards


def field_of_view(planes: Sequence[ArrayLike]) -> NDArray | None:
    """How often each place is dark, if the planes have dark surroundings in common.

    Surroundings are what Otsu's threshold (of the square root) calls dark and what touches the
    border of the image. Objects differ from plane to plane, a field of view does not.

    Parameters
    ----------
    planes : sequence of arrays, (y, x)
        Any real type. At most a dozen, evenly spread, are looked at.

    Returns
    -------
    array of float, [0, 1], or None
        Share of the planes with surroundings at a place, coarse (at most 256 pixels a side), for
        `filled`. None for volumes, for planes of several shapes, fewer than three, or without
        surroundings in common.
    """
    shapes = {np.shape(plane) for plane in planes}
    if len(planes) < _FEWEST or len(shapes) > 1 or len(shapes.pop()) != 2:
        return None
    chosen = evenly(planes, MOST_PLANES)
    dark = np.mean([_surroundings(_coarse(plane)) for plane in chosen], axis=0)
    lit, unlit = dark <= 1 - _NEARLY_ALL, dark >= _NEARLY_ALL
    found = (
        unlit.mean() >= _LEAST_DARK
        and lit.mean() >= _LEAST_LIT
        and lit.mean() + unlit.mean() >= 1 - _MOST_UNSURE
    )
    return dark if found else None


def filled(plane: ArrayLike, dark: NDArray) -> NDArray:
    """The plane with its surroundings as bright as the nearby field, so that no rim is left.

    Where fields differ a little, as wells do, the plane's own counts.

    Parameters
    ----------
    plane : array, (y, x)
        Any real type.
    dark : array of float
        From `field_of_view`.

    Returns
    -------
    array, of the plane's type
    """
    from scipy.ndimage import binary_erosion, gaussian_filter
    from skimage.transform import resize

    plane = np.asarray(plane)
    coarse, sigma = _coarse(plane), _REACH * max(dark.shape)
    own = ~_surroundings(coarse) & (dark < _NEARLY_ALL)
    field = binary_erosion(own | (dark <= 1 - _NEARLY_ALL), iterations=_ERODED, border_value=1)
    if not field.any():
        return plane
    mean = coarse[field].mean()
    weight = gaussian_filter(field.astype(float), sigma)
    spread = gaussian_filter(np.where(field, coarse - mean, 0), sigma) / (weight + 1e-3) + mean
    inside = resize(field.astype(float), plane.shape, order=1) > 0.5
    outside = resize(spread, plane.shape, order=1, preserve_range=True).astype(plane.dtype)
    return np.where(inside, plane, outside)


def _coarse(plane: ArrayLike) -> NDArray:
    """Means of blocks, of at most 256 pixels a side."""
    from skimage.transform import downscale_local_mean

    plane = np.asarray(plane)
    step = -(-max(plane.shape) // _SIDE)
    rows, columns = (side // step * step for side in plane.shape)
    return downscale_local_mean(plane[:rows, :columns].astype(float), (step, step))


def _surroundings(plane: NDArray) -> NDArray:
    """Dark pixels that touch the border by other dark ones."""
    from scipy.ndimage import gaussian_filter, label
    from skimage.filters import threshold_otsu

    root = np.sqrt(np.maximum(gaussian_filter(plane, 1) - plane.min(), 0))
    if not np.ptp(root) > 0:
        return np.zeros(plane.shape, bool)
    parts, _ = label(root <= threshold_otsu(root))
    border = np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]])
    return np.isin(parts, np.unique(border[border > 0]))
