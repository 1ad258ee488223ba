"""Growing, shrinking and thinning of classes: numpy arrays, the last two or three axes."""

import math
from typing import Any

import numpy as np

from napari_metastructure.arrays.labels import count_classes


def skeletons(labels: Any) -> Any:
    """The skeleton of each class of one plane or volume."""
    from scipy.ndimage import find_objects
    from skimage.morphology import skeletonize as thin

    names = np.union1d(count_classes(labels)[0], 0)
    if names.size <= 2:
        return labels * thin(labels != 0)
    out = np.zeros_like(labels)
    numbers = np.searchsorted(names, labels)
    for number, box in enumerate(find_objects(numbers), 1):
        line = thin(numbers[box] == number)
        out[box][line] = labels[box][line]
    return out


def expand(seeds: Any, radius: float, spatial_dims: int) -> Any:
    """Each plane or volume with its classes grown into the background, the nearest first."""
    top = seeds.max(initial=0)
    if ((seeds == 0) | (seeds == top)).all():
        return ball_filter(seeds, radius, np.maximum, spatial_dims)
    from skimage.segmentation import expand_labels

    grown = np.empty_like(seeds)
    for index in np.ndindex(seeds.shape[:-spatial_dims]):
        grown[index] = expand_labels(seeds[index], radius)
    return grown


def ball_filter(array: Any, radius: float, extreme: Any, spatial_dims: int) -> Any:
    """Running minimum or maximum over a disk (ball); outside of the array nothing counts."""
    square = math.floor(min(radius, sum(array.shape)) ** 2 + 1e-9)
    out = _disk_filter(array, square, extreme)
    if spatial_dims == 3:
        for step in range(1, math.isqrt(square) + 1):
            _combine(out, _disk_filter(array, square - step * step, extreme), step, -3, extreme)
    return out


def _disk_filter(array, square, extreme):
    # a disk is a pile of rows: the row is widened step by step while going to the centre
    row, half = array.copy(), 0
    out = array.copy()
    for step in range(math.isqrt(square), -1, -1):
        while (half + 1) ** 2 <= square - step * step:
            half += 1
            _combine(row, array, half, -1, extreme)
        _combine(out, row, step, -2, extreme)
    return out


def _combine(out, array, step, axis, extreme):
    """Take into `out` the array moved by `step` to either side along an axis."""
    out, array = np.moveaxis(out, axis, 0), np.moveaxis(array, axis, 0)
    size = max(len(out) - step, 0)
    extreme(out[:size], array[len(out) - size :], out=out[:size])
    if step:
        extreme(out[len(out) - size :], array[:size], out=out[len(out) - size :])
