"""Randomised and random labels: every pixel is redrawn by itself."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from napari_metastructure.arrays import draws
from napari_metastructure.arrays.blocks import map_blocks
from napari_metastructure.arrays.labels import check_labels, count_classes
from napari_metastructure.labels.classes import (
    Fixed,
    check_fractions,
    check_matrix,
    check_share,
    class_values,
    matrix_classes,
    numbers_of,
    restore,
    values_of,
)

__all__ = ["flip", "random_labels", "random_like", "sample", "transition"]


def sample(
    labels: Any,
    fraction: float,
    *,
    classes: Sequence[int] | None = None,
    ignore_label: int | None = None,
    seed: Any = None,
) -> Any:
    """Keep a fraction of the foreground pixels; the rest become background.

    Parameters
    ----------
    labels : (..., y, x) array of int or bool
        Numpy, dask or zarr; 0 is background.
    fraction : float in [0, 1]
        Probability of each foreground pixel to stay.
    classes : sequence of int, optional
        The classes to thin out; by default all.
    ignore_label : int, optional
        Pixels of this label, and of label -1, stay untouched.
    seed : int, sequence of int or numpy.random.Generator, optional
        The same seed gives the same pixels, whatever the chunking.

    Returns
    -------
    array like `labels`

    Raises
    ------
    TypeError
        If the labels are not integers.
    ValueError
        If `fraction` lies outside [0, 1].

    Notes
    -----
    Transition matrix of a binary mask: ``[[1, 0], [1 - fraction, fraction]]``.
    """
    labels = check_labels(labels)
    keep = np.float32(check_share("fraction", fraction))

    def change(tile, u):
        return tile * (u < keep)

    return _redraw(labels, change, "sample", seed, Fixed(ignore_label, classes))


def flip(
    labels: Any,
    ratio: float,
    *,
    num_classes: int | None = None,
    classes: Sequence[int] | None = None,
    ignore_label: int | None = None,
    seed: Any = None,
) -> Any:
    """Give each pixel, with some probability, another class, all others being equally likely.

    A binary mask is swapped: above a ratio of 0.5 it is more wrong than right, and a network
    trained on it learns the inverse.

    Parameters
    ----------
    labels : (..., y, x) array of int or bool
    ratio : float in [0, 1]
        Probability of each pixel to change.
    num_classes : int, optional
        Classes are 0 to ``num_classes - 1``. By default those present in the labels, together with
        0, so that a mask of 0 and 255 is swapped between these. Looking them up reads a dask array
        once, at once.
    classes : sequence of int, optional
        Only pixels truly of these classes may change; by default all.
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
        If `ratio` lies outside [0, 1], or a label is `num_classes` or more.
    """
    labels = check_labels(labels)
    ratio = check_share("ratio", ratio)
    values = class_values(labels, num_classes, ignore_label)
    others = values.size - 1
    threshold = np.float32(ratio)

    def swap(tile, u):
        return tile ^ (u < threshold) * values[1]

    def choose(tile, u):
        # the draws below the ratio, stretched back to [0, 1), choose among the other classes
        pick = np.minimum(u * np.float32(others / max(ratio, 1e-30)), others - 1)
        pick = pick.astype(tile.dtype)
        pick += pick >= numbers_of(tile, values)
        return draws.choose(u < threshold, values_of(pick, values), tile)

    change = swap if others == 1 else choose
    return _redraw(labels, change, "flip", seed, Fixed(ignore_label, classes))


def transition(
    labels: Any,
    matrix: Any,
    *,
    classes: Sequence[int] | None = None,
    ignore_label: int | None = None,
    seed: Any = None,
) -> Any:
    """Redraw each pixel from the row of a noise transition matrix that belongs to its class.

    Parameters
    ----------
    labels : (..., y, x) array of int or bool
        Classes 0 to M - 1; a mask of 0 and 255 counts as classes 0 and 1.
    matrix : (M, M) array of float
        ``matrix[true, noisy]``, the probability that a pixel of class `true` gets class `noisy`.
        Rows sum to 1.
    classes, ignore_label, seed
        As in `sample`.

    Returns
    -------
    array like `labels`

    Raises
    ------
    TypeError
        If the labels are not integers.
    ValueError
        If the matrix is not square, a row does not sum to 1 within 1e-6, an entry is negative or
        not finite, or the labels have more classes than the matrix has rows.
    """
    labels = check_labels(labels)
    matrix = check_matrix(matrix)
    values = matrix_classes(labels, len(matrix), ignore_label)
    tables = draws.alias_tables(matrix)

    def change(tile, u):
        return values_of(draws.draw(tables, numbers_of(tile, values), u), values)

    return _redraw(labels, change, "transition", seed, Fixed(ignore_label, classes))


def random_labels(shape: Sequence[int], fractions: Any, *, seed: Any = None) -> Any:
    """Labels drawn at random, independent of any image.

    Parameters
    ----------
    shape : sequence of int
        At least two axes.
    fractions : float or sequence of float
        Share of each class 0 to M - 1, summing to 1; one number is the share of the foreground.
    seed
        As in `sample`.

    Returns
    -------
    numpy.ndarray
        uint8, or uint16 above 256 classes.

    Raises
    ------
    ValueError
        If the fractions are negative or do not sum to 1 within 1e-6.
    """
    fractions = check_fractions(fractions)
    blank = np.zeros(shape, np.min_scalar_type(fractions.size - 1))
    return _random(check_labels(blank), fractions, np.arange(fractions.size), seed, Fixed())


def _random(labels, fractions, values, seed, fixed):
    tables = draws.alias_tables(fractions[None])
    values = values.astype(labels.dtype)

    def change(tile, u):
        return values_of(draws.draw(tables, 0, u), values)

    return _redraw(labels, change, "random", seed, fixed)


def random_like(
    labels: Any,
    fractions: Any = None,
    *,
    classes: Sequence[int] | None = None,
    ignore_label: int | None = None,
    seed: Any = None,
) -> Any:
    """Redraw each pixel at random: `random_labels` in the shape and type of given labels.

    Parameters
    ----------
    labels : (..., y, x) array of int or bool
    fractions : float or sequence of float, optional
        Share of each class, as in `random_labels`; by default as in the labels.
    classes, ignore_label, seed
        As in `sample`.

    Returns
    -------
    array like `labels`
    """
    labels = check_labels(labels)
    if fractions is None:
        values, counts = count_classes(labels, ignore_label)
        fractions = counts / max(counts.sum(), 1)
        if not counts.sum():
            return labels.copy()
    else:
        fractions = check_fractions(fractions)
        values = matrix_classes(labels, fractions.size, ignore_label, strict=False)
    return _random(labels, fractions, values, seed, Fixed(ignore_label, classes))


def _redraw(labels, change, kind, seed, fixed):
    """Apply ``change(tile, u)`` with uniform draws u, tile by tile."""
    entropy = draws.entropy(seed, kind)
    shape = labels.shape

    def on_block(block, start):
        out = np.empty_like(block)
        for where, u in draws.tiles(block.shape, start, shape, entropy):
            tile = block[where]
            out[where] = restore(change(tile, u), tile, fixed(tile))
        return out

    return map_blocks(on_block, labels)
