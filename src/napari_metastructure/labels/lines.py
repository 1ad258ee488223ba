"""Labels drawn as centre lines: a network widens them by the edges of the images."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["draw_lines"]


def draw_lines(lines: Iterable[ArrayLike], shape: Sequence[int]) -> NDArray[np.uint8]:
    """Labels with a line of one pixel along each polyline.

    Parameters
    ----------
    lines : iterable of arrays of float, (points, axes)
        Corners of each polyline in pixels, the centre of the first pixel at 0. What lies outside
        is left out.
    shape : sequence of int
        Of the labels, as many sides as the points have axes.

    Returns
    -------
    array of uint8
        1 on the lines, else 0.

    Raises
    ------
    ValueError
        If a line has no points, or points of another number of axes.
    """
    from skimage.draw import line_nd

    labels, sides = np.zeros(tuple(shape), np.uint8), np.array(shape)[:, None]
    for number, line in enumerate(lines):
        points = np.asarray(line, dtype=float)
        if points.ndim != 2 or not len(points) or points.shape[1] != len(shape):
            raise ValueError(
                f"Line {number} should be an array of points with {len(shape)} axes each, "
                f"not of shape {points.shape}."
            )
        for start, stop in zip(points, points[1:] if len(points) > 1 else points):
            at = np.array(line_nd(start, stop, endpoint=True))
            inside = ((at >= 0) & (at < sides)).all(axis=0)
            labels[tuple(at[:, inside])] = 1
    return labels
