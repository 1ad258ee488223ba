"""Meta-structure made visible: spatial density distributions of the classes.

The density of class m at x is the share of the pixels in a window around x that carry m. Labels
that look nothing alike pixel by pixel have the same densities, up to the transition matrix, if one
is a randomised copy of the other (Luo et al., AAAI 2022, arXiv 2103.11594, Lemma 1).
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from napari_metastructure.arrays.blocks import is_lazy, map_blocks, sum_blocks
from napari_metastructure.arrays.labels import check_labels, count_classes
from napari_metastructure.labels import transition
from napari_metastructure.labels.classes import (
    check_matrix,
    check_radius,
    class_values,
    fits,
    matrix_classes,
)
from napari_metastructure.parameters import Field, Parameters, words

__all__ = ["DensityConfig", "expected", "kept", "observed", "residual"]

TRUNCATE = 4  # standard deviations at which the Gaussian window ends
SURROUNDINGS = {1: 9, 2: 12, 4: 8, 8: 8}  # radius of a window: steps of density told apart in it


class DensityConfig(Parameters):
    """The window in which densities are taken."""

    radius: float | tuple[float, ...] = Field(
        10,
        title="Radius",
        description="Half the side of the window, in pixels or in units of scale.",
    )
    kernel: Literal["box", "gaussian"] = Field(
        "box",
        title="Kernel",
        description=(
            "box: all pixels have the same weight. gaussian: weights of a Gaussian with "
            "the same standard deviation."
        ),
    )
    spatial_dims: Literal[2, 3] = Field(
        2,
        title="Dimensions",
        description="2: each plane separately; 3: whole volumes.",
        json_schema_extra=words({2: "2-D", 3: "3-D"}),
    )
    scale: float | tuple[float, ...] = Field(
        1, title="Pixel size", description="Size of a pixel; one number, or one for each axis."
    )
    ignore_label: int | None = Field(
        None, title="Ignore label", description="Pixels of this label, and of -1, do not count."
    )


def observed(  # numpydoc ignore=PR02
    labels: Any,
    radius: float | Sequence[float],
    *,
    classes: Sequence[int] | None = None,
    **window: Any,
) -> Any:
    """Density of each class around each pixel.

    Parameters
    ----------
    labels : (..., y, x) array of int or bool
        Numpy, dask or zarr.
    radius : float or sequence of float
        Half the side of the window without its centre, ``2 * radius + 1`` pixels; one number, or
        one for each spatial axis.
    classes : sequence of int, optional
        By default those present, together with 0 (and 1, if there are no others).
    **window
        ``kernel`` "box" or "gaussian", of the standard deviation of the box; ``spatial_dims``
        2: each (y, x) plane by itself, or 3: the last three axes together; ``scale``, the size of
        a pixel, if `radius` is meant in physical units; ``ignore_label``: pixels of this label,
        and of label -1, do not count.

    Returns
    -------
    (classes, ..., y, x) array of float32, numpy or dask as `labels`
        From 0 to 1. At the border of the image the share is that of the pixels inside; where
        there are none but ignored pixels it is 0.

    Raises
    ------
    TypeError
        If the labels are not integers.
    ValueError
        If none of the classes is present, or a parameter lies outside its range.

    Notes
    -----
    Densities of the box are exact, from running sums of integers; both kernels cost about the same
    whatever the radius.
    """
    around = _Window(radius, **window)
    labels = check_labels(labels, around.spatial_dims)
    values = _classes(labels, classes, around.ignore_label)

    def on_plane(plane):
        known, pixels = around.pixels(plane)
        return [around.share(plane == value, known, pixels) for value in values]

    return around.map(on_plane, labels, len(values))


def expected(clean: Any, matrix: Any, radius: float | Sequence[float], **window: Any) -> Any:
    """Density of each class that noise of a given matrix makes of a clean label.

    Parameters
    ----------
    clean : (..., y, x) array of int or bool
        Classes 0 to M - 1; a mask of 0 and 255 counts as classes 0 and 1.
    matrix : (M, M) array of float
        Transition matrix, see `transition`.
    radius, **window
        As in `observed`: kernel, spatial_dims, scale, ignore_label.

    Returns
    -------
    (M, ..., y, x) array of float32, numpy or dask as `clean`

    Raises
    ------
    TypeError, ValueError
        As in `observed`, and if the matrix does not fit the labels.

    Notes
    -----
    Lemma 1: ``f_m(x) = sum_j Q[j, m] S_j(x)``, with S_j the density of the true class j.
    """
    return _moments(clean, matrix, radius, window, ("mean",))


def residual(
    noisy: Any,
    clean: Any,
    matrix: Any,
    radius: float | Sequence[float],
    *,
    in_sigma: bool = False,
    **window: Any,
) -> Any:
    """Observed density of a noisy label, less the one expected from the clean label.

    Parameters
    ----------
    noisy, clean : (..., y, x) arrays of int or bool, of one shape
    matrix : (M, M) array of float
        Transition matrix, see `transition`.
    radius, **window
        As in `observed`: kernel, spatial_dims, scale, ignore_label.
    in_sigma : bool, optional
        Divide by the sampling error.

    Returns
    -------
    (M, ..., y, x) array of float32
        In shares, or in standard deviations: if Lemma 1 holds, at least 99 % of the pixels lie
        within 3.

    Raises
    ------
    TypeError, ValueError
        As in `observed`, and if shapes differ or the matrix does not fit the labels.

    Notes
    -----
    The sampling error delta is that of independent draws for each pixel of the window, given its
    true class: ``delta^2 = sum_j Q[j, m] (1 - Q[j, m]) S_j(x) / n``. It is never larger than the
    ``f (1 - f) / n`` that follows from the density alone, and is taken to be no less than half a
    pixel of the window, ``0.5 / n``, for densities come in steps of one pixel.
    """
    noisy, clean = check_labels(noisy), check_labels(clean)
    if noisy.shape != clean.shape:
        raise ValueError(
            f"Noisy and clean labels must have one shape, not {noisy.shape} and {clean.shape}."
        )
    matrix = check_matrix(matrix)
    ignore_label = window.get("ignore_label")
    classes = matrix_classes(noisy, len(matrix), ignore_label)
    found = observed(noisy, radius, classes=classes, **window)
    if not in_sigma:
        return found - expected(clean, matrix, radius, **window)
    moments = _moments(clean, matrix, radius, window, ("mean", "sigma"))
    return (found - moments[: len(matrix)]) / moments[len(matrix) :]


def kept(
    clean: Any, noisy: Any, *, spatial_dims: int = 2, ignore_label: int | None = None
) -> float:
    """How much of the meta-structure the noisy label keeps: a single figure of merit.

    Parameters
    ----------
    clean, noisy : (..., y, x) arrays of int or bool, of one shape
        Numpy or dask.
    spatial_dims : {2, 3}, optional
        2: each (y, x) plane by itself; 3: the last three axes together.
    ignore_label : int, optional
        Pixels of this label, and of label -1, do not count.

    Returns
    -------
    float
        1: the noisy label depends on the true class alone, as in clean and randomised labels,
        inverted ones included. Less, the more it follows something else that an image shows.
        0: it says nothing about the classes, as in random labels.

    Raises
    ------
    TypeError
        If the labels are not integers.
    ValueError
        If the shapes differ, or there are too many classes.

    Notes
    -----
    By Lemma 1 the noisy label depends on the surroundings of a pixel only through its true class.
    The figure is the variance of the noisy label that the true class explains, divided by the
    variance that the true class and its clean densities around the pixel explain (in windows of
    radius 1, 2, 4 and 8). Both are freed of the bias of small samples, and an excess within three
    standard errors counts for nothing.

    Its limits: it does not see which classes are merged (see `transition.rank`), how faint they
    are, nor changes that no window of radius 8 shows, such as objects left out arbitrarily. In a
    single small plane, strong noise hides what else there may be. Where structures are as thin as
    lines, their skeleton is nearly a sample of them and scores accordingly.
    """
    counts = transition.count(clean, noisy, ignore_label=ignore_label)
    size = len(counts)
    contexts = size * math.prod(steps + 1 for steps in SURROUNDINGS.values())
    if contexts * size > 2e7:
        raise ValueError(f"{size} classes are too many for the figure of merit; merge some.")
    if transition.rank(transition.normalised(counts), counts) <= 1:
        return 0.0
    clean, noisy = check_labels(clean, spatial_dims), check_labels(noisy)
    classes = class_values(clean, size if size > 2 else None, ignore_label)
    windows = [
        (_Window(radius, spatial_dims=spatial_dims, ignore_label=ignore_label), steps)
        for radius, steps in SURROUNDINGS.items()
    ]

    def context(plane):
        number = np.minimum(np.searchsorted(classes, plane), size - 1)
        for window, steps in windows:
            known, pixels = window.pixels(plane)
            number *= steps + 1
            for value in classes:
                share = window.share(plane == value, known, pixels)
                number += np.where(plane == value, share * steps + 1e-4, 0).astype(np.intp)
        return [number]

    surroundings = windows[-1][0].map(context, clean, 1, np.int64)[0]

    def pairs(surroundings, clean, noisy):
        known = transition.both_known(clean, noisy, ignore_label)
        noisy = noisy != 0 if size == 2 else noisy
        cell = surroundings[known] * size + noisy[known].astype(np.intp)
        return np.bincount(cell, minlength=contexts * size)

    found = sum_blocks(pairs, surroundings, clean, noisy).reshape(-1, size)
    by_class, by_context = _explained(counts)[0], _explained(found)
    excess, chance = by_context[0] - by_class, by_context[1]
    return float(by_class / (by_class + excess)) if excess > 3 * chance else 1.0


def _explained(counts):
    """Variance of the columns that the rows of a table explain, freed of bias, and its error."""
    counts = counts[counts.sum(1) > 1]
    total = counts.sum(1, keepdims=True)
    share, weight = counts / total, total / total.sum()
    chance = share * (1 - share) / (total - 1)
    explained = weight * ((share - (weight * share).sum(0)) ** 2 - chance)
    return explained.sum(), np.sqrt(2 * ((weight * chance).sum(1) ** 2).sum())


def _moments(clean, matrix, radius, window, wanted):
    """Mean and standard deviation of the noisy densities, one after the other."""
    window = _Window(radius, **window)
    matrix = check_matrix(matrix)
    clean = check_labels(clean, window.spatial_dims)
    classes = matrix_classes(clean, len(matrix), window.ignore_label)
    spread = matrix * (1 - matrix)

    def on_plane(plane):
        known, pixels = window.pixels(plane)
        true = np.stack([window.share(plane == value, known, pixels) for value in classes])
        parts = []
        if "mean" in wanted:
            parts.extend(_mix(matrix, true))
        if "sigma" in wanted:
            number = np.maximum(window.effective(known, pixels), 1)
            parts.extend(np.maximum(np.sqrt(_mix(spread, true) / number), 0.5 / number))
        return parts

    return window.map(on_plane, clean, len(matrix) * len(wanted))


def _mix(matrix, true):
    flat = matrix.T.astype(np.float32) @ true.reshape(len(true), -1)
    return flat.reshape(true.shape)


def _classes(labels, classes, ignore_label):
    if classes is None:
        return class_values(labels, None, ignore_label)
    classes = np.atleast_1d(np.asarray(classes, int))
    if not is_lazy(labels) and not np.isin(classes, count_classes(labels, ignore_label)[0]).any():
        names = ", ".join(map(str, classes))
        raise ValueError(f"The labels have no pixel of class {names}.")
    return classes


class _Window:
    """Sums over the window around each pixel of a plane or volume."""

    def __init__(self, radius, **options):
        config = DensityConfig(radius=radius, **options)
        self.spatial_dims, self.ignore_label = config.spatial_dims, config.ignore_label
        self.is_box = config.kernel == "box"
        radii = self._per_axis("radius", config.radius)
        scale = self._per_axis("scale", config.scale)
        if not (scale > 0).all():
            raise ValueError(f"scale must be positive, not {config.scale}.")
        radii = [check_radius(one) for one in radii / scale]
        if self.is_box:
            self.weights = [np.ones(int(r + 0.5) + 1) for r in radii]
        else:
            self.weights = [_bell(np.sqrt(r * (r + 1) / 3)) for r in radii]

    def _per_axis(self, name, values):
        if np.ndim(values) and len(values) != self.spatial_dims:
            raise ValueError(
                f"{name} needs one number or {self.spatial_dims}, one per axis, not {values}."
            )
        return np.broadcast_to(np.asarray(values, float), self.spatial_dims)

    def map(self, function, labels, maps, dtype=np.float32):
        """Stack the maps that a function of one plane or volume returns; numpy or dask."""

        def on_block(block, start):
            out = np.empty((maps, *block.shape), dtype)
            for index in np.ndindex(block.shape[: -self.spatial_dims]):
                for result, one in zip(out, function(block[index])):
                    result[index] = one
            return out

        depth = [0] * (labels.ndim - self.spatial_dims) + [len(w) - 1 for w in self.weights]
        return map_blocks(on_block, labels, depth=depth, dtype=dtype, leading=(maps,))

    def pixels(self, plane):
        """The pixels that count (None: all), and the sum of their weights."""
        known = None
        ignored = [plane == v for v in {-1, self.ignore_label} - {None} if fits(v, plane.dtype)]
        if ignored and np.any(ignored):
            known = ~np.logical_or.reduce(ignored)
            total = self._sum(known).astype(np.float32)
            total[total < 1e-3] = np.inf
        else:
            total = self._edges(plane.shape, self.weights)
        return known, total

    def share(self, mask, known, pixels):
        """Share of the window that a mask covers."""
        total = self._sum(mask if known is None else mask & known)
        return np.divide(total, pixels, dtype=np.float32, casting="unsafe")

    def effective(self, known, pixels):
        """How many pixels of equal weight give the same sampling error."""
        if self.is_box:
            return pixels
        squares = [weights**2 for weights in self.weights]
        if known is None:
            return pixels**2 / self._edges(pixels.shape, squares)
        return pixels**2 / np.maximum(_convolve(known, squares), 1e-6)

    def _sum(self, mask):
        if not self.is_box:
            return _convolve(mask, self.weights)
        for axis in range(-1, -self.spatial_dims - 1, -1):
            mask = _running_sum(mask, len(self.weights[axis]) - 1, axis)
        return mask

    def _edges(self, shape, weights):
        """Sum of the weights that lie inside the image, for each pixel."""
        total = np.ones((), np.float32)
        for size, half in zip(shape, weights):
            inside = np.concatenate([[0], half[1:size].cumsum(), np.full(size, half[1:size].sum())])
            line = inside[np.arange(size)] + half[0] + inside[np.arange(size)[::-1]]
            total = total[..., None] * line.astype(np.float32)
        return total


def _bell(sigma):
    """One half of a Gaussian window, from its centre outwards."""
    steps = np.arange(int(np.ceil(TRUNCATE * sigma)) + 1)
    return np.exp(-0.5 * (steps / max(sigma, 1e-6)) ** 2)


def _running_sum(array, half, axis):
    """Sum over 2 * half + 1 pixels along an axis, fewer at the border; exact, in uint32."""
    size = array.shape[axis]
    if not array.size:
        return np.zeros(array.shape, np.uint32)
    half = min(half, size - 1)
    total = np.moveaxis(_cumulative(array, axis), axis, 0)
    out = np.empty_like(total)
    out[: size - half] = total[half:]
    out[size - half :] = total[-1]
    out[half + 1 :] -= total[: size - half - 1]
    return np.moveaxis(out, 0, axis)


def _cumulative(array, axis):
    if axis == -1:
        return np.cumsum(array, axis=-1, dtype=np.uint32)
    out = np.array(array, np.uint32)
    rows = np.moveaxis(out, axis, 0)
    for before, row in pairwise(rows):  # much faster than cumsum, which jumps in memory
        row += before
    return out


def _convolve(mask, weights):
    """Convolution with a separable window, given by halves, with zeros outside."""
    from scipy import fft

    halves = [half[:size] for half, size in zip(weights, mask.shape)]
    shape = [fft.next_fast_len(n + len(h) - 1, real=True) for n, h in zip(mask.shape, halves)]
    spectrum = fft.rfftn(mask.astype(np.float32), shape)
    for axis, (size, half) in enumerate(zip(shape, halves)):
        line = np.zeros(size, np.float32)
        line[: len(half)] = half
        line[size - len(half) + 1 :] = half[:0:-1]
        line = fft.fft(line).real[: spectrum.shape[axis]]
        spectrum *= line.reshape([-1 if a == axis else 1 for a in range(mask.ndim)])
    out = fft.irfftn(spectrum, shape)[tuple(slice(n) for n in mask.shape)]
    return np.maximum(out, 0, out=out)
