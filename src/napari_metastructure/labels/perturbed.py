"""Perturbed labels: the borders of the classes move."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from napari_metastructure.arrays import draws
from napari_metastructure.arrays.blocks import map_blocks
from napari_metastructure.arrays.labels import check_labels
from napari_metastructure.labels import borders
from napari_metastructure.labels.classes import Fixed, check_radius, restore

__all__ = ["dilate", "erode", "shift", "skeletonize"]


def shift(
    labels: Any,
    radius: float,
    *,
    spatial_dims: int = 2,
    classes: Sequence[int] | None = None,
    ignore_label: int | None = None,
    seed: Any = None,
) -> Any:
    """Move each foreground pixel at random within a square (cube), clipped at the border.

    Where nothing lands the result is background. Where several pixels land, the one that comes
    last in reading order of the clean label wins.

    Parameters
    ----------
    labels : (..., y, x) array of int or bool
    radius : float >= 0
        Greatest move along each axis, in pixels; a fraction is dropped.
    spatial_dims : {2, 3}, optional
        2: within each (y, x) plane; 3: within (z, y, x), the last three axes.
    classes : sequence of int, optional
        The classes to move; by default all. Pixels of the others stay, and cannot be overwritten.
    ignore_label, seed
        As in `sample`.

    Returns
    -------
    array like `labels`

    Raises
    ------
    TypeError
        If the labels are not integers.
    ValueError
        If `radius` is negative, or the labels have fewer axes than `spatial_dims`.
    """
    labels = check_labels(labels, spatial_dims)
    reach = int(check_radius(radius))
    side = 2 * reach + 1
    if reach == 0:
        return labels.copy()
    entropy = draws.entropy(seed, "shift")
    shape = labels.shape
    fixed = Fixed(ignore_label, classes)

    def move(block, start):
        stay = fixed(block)
        moving = block != 0 if stay is None else (block != 0) & ~stay
        here = np.nonzero(moving)
        u = draws.uniform(block.shape, start, shape, entropy)[here]
        there, landed = list(here), True
        for axis in range(block.ndim - spatial_dims, block.ndim):
            u *= side  # the whole part is the step along this axis, the rest serves the next one
            step = np.minimum(u.astype(np.int32), side - 1)
            u -= step
            target = here[axis] + step + (start[axis] - reach)
            np.clip(target, 0, shape[axis] - 1, out=target)
            there[axis] = target - start[axis]
            landed &= (there[axis] >= 0) & (there[axis] < block.shape[axis])
        out = np.zeros_like(block)
        out[tuple(axis[landed] for axis in there)] = block[here][landed]
        return restore(out, block, stay)

    return map_blocks(move, labels, depth=_halo(labels, reach, spatial_dims))


def dilate(
    labels: Any,
    radius: float,
    *,
    spatial_dims: int = 2,
    classes: Sequence[int] | None = None,
    ignore_label: int | None = None,
) -> Any:
    """Grow each class into the background around it, the nearest class first.

    Parameters
    ----------
    labels : (..., y, x) array of int or bool
    radius : float >= 0
        Euclidean distance in pixels.
    spatial_dims : {2, 3}, optional
        2: each (y, x) plane by itself; 3: the last three axes together.
    classes : sequence of int, optional
        The classes that grow; by default all.
    ignore_label : int, optional
        Pixels of this label, and of label -1, neither grow nor are grown into.

    Returns
    -------
    array like `labels`

    Raises
    ------
    TypeError
        If the labels are not integers.
    ValueError
        If `radius` is negative, or the labels have fewer axes than `spatial_dims`.

    See Also
    --------
    skimage.segmentation.expand_labels : the same result for one plane
    """
    labels = check_labels(labels, spatial_dims)
    radius = check_radius(radius)
    fixed = Fixed(ignore_label, classes)
    ignored = Fixed(ignore_label)

    def grow(block, start):
        stay = fixed(block)
        seeds = block if stay is None else np.where(stay, 0, block)
        grown = borders.expand(seeds, radius, spatial_dims)
        out = np.where(block == 0, grown, block)
        return restore(out, block, ignored(block))

    return _on_integers(grow, labels, depth=_halo(labels, math.ceil(radius), spatial_dims))


def erode(
    labels: Any,
    radius: float,
    *,
    spatial_dims: int = 2,
    classes: Sequence[int] | None = None,
    ignore_label: int | None = None,
) -> Any:
    """Keep the foreground pixels that see nothing but their own class within the radius.

    The outside of the image, and ignored pixels, do not count as another class.

    Parameters
    ----------
    labels : (..., y, x) array of int or bool
    radius : float >= 0
        Euclidean distance in pixels.
    spatial_dims : {2, 3}, optional
        2: each (y, x) plane by itself; 3: the last three axes together.
    classes : sequence of int, optional
        The classes that shrink; by default all.
    ignore_label : int, optional
        As in `sample`.

    Returns
    -------
    array like `labels`

    Raises
    ------
    TypeError
        If the labels are not integers.
    ValueError
        If `radius` is negative, or the labels have fewer axes than `spatial_dims`.
    """
    labels = check_labels(labels, spatial_dims)
    radius = check_radius(radius)
    fixed = Fixed(ignore_label, classes)
    ignored = Fixed(ignore_label)

    def shrink(block, start):
        unknown = ignored(block)
        info = np.iinfo(block.dtype)
        lowest = block if unknown is None else np.where(unknown, info.max, block)
        highest = block if unknown is None else np.where(unknown, info.min, block)
        lowest = borders.ball_filter(lowest, radius, np.minimum, spatial_dims)
        highest = borders.ball_filter(highest, radius, np.maximum, spatial_dims)
        return restore(block * (lowest == highest), block, fixed(block))

    return _on_integers(shrink, labels, depth=_halo(labels, math.ceil(radius), spatial_dims))


def skeletonize(
    labels: Any,
    *,
    spatial_dims: int = 2,
    classes: Sequence[int] | None = None,
    ignore_label: int | None = None,
) -> Any:
    """Thin each class to its skeleton, one pixel wide.

    Parameters
    ----------
    labels : (..., y, x) array of int or bool
    spatial_dims : {2, 3}, optional
        2: each (y, x) plane by itself (Zhang); 3: the last three axes together (Lee). Dask arrays
        are joined along these axes, for a skeleton depends on the whole plane or volume.
    classes : sequence of int, optional
        The classes to thin; by default all.
    ignore_label : int, optional
        As in `sample`.

    Returns
    -------
    array like `labels`

    Raises
    ------
    TypeError
        If the labels are not integers.
    ValueError
        If the labels have fewer axes than `spatial_dims`.

    See Also
    --------
    skimage.morphology.skeletonize : applied to each class by itself
    """
    labels = check_labels(labels, spatial_dims)
    fixed = Fixed(ignore_label, classes)

    def thin(block, start):
        stay = fixed(block)
        moving = block if stay is None else np.where(stay, 0, block)
        out = np.zeros_like(block)
        for index in np.ndindex(block.shape[:-spatial_dims]):
            out[index] = borders.skeletons(moving[index])
        return restore(out, block, stay)

    whole = range(labels.ndim - spatial_dims, labels.ndim)
    return _on_integers(thin, labels, whole_axes=tuple(whole))


def _on_integers(function, labels, **options):
    """`map_blocks`, with bool labels seen as uint8."""

    def on_block(block, start):
        if block.dtype.kind == "b":
            return function(block.view(np.uint8), start).view(bool)
        return function(block, start)

    return map_blocks(on_block, labels, **options)


def _halo(labels, reach, spatial_dims):
    return (0,) * (labels.ndim - spatial_dims) + (reach,) * spatial_dims
