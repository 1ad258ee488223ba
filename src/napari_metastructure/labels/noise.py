"""Label corruption: what cheap, hurried or random annotation does to a clean label.

Three families (Luo et al., AAAI 2022, arXiv 2103.11594, "Noisy labels"):

* randomised clean labels (`sample`, `flip`, `transition`): every pixel is redrawn by itself, given
  its true class. Their meta-structure is kept as long as the transition matrix has full rank.
* perturbed clean labels (`dilate`, `erode`, `skeletonize`, and `shift`): borders move.
* random labels (`random_labels`): blind to the image.

All functions take numpy or dask arrays of any integer type or bool, planes or stacks (..., y, x),
and give back a new array of the same kind and type. Label 0 is background. Pixels of label -1, and
of `ignore_label`, are left as they are. The same seed gives the same answer whatever the chunking.
"""

import math
from typing import Annotated, Literal

import numpy as np
from pydantic import BeforeValidator, model_validator

from napari_metastructure.arrays import draws
from napari_metastructure.arrays.blocks import check_labels, count_classes, map_blocks
from napari_metastructure.labels import borders
from napari_metastructure.parameters import Field, Parameters

__all__ = [
    "PARAMETERS",
    "Kind",
    "NoiseSpec",
    "corrupt",
    "dilate",
    "erode",
    "flip",
    "random_labels",
    "sample",
    "shift",
    "skeletonize",
    "transition",
]


# --------------------------------------------------------------------------- randomised labels


def sample(labels, fraction, *, classes=None, ignore_label=None, seed=None):
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

    return _redraw(labels, change, "sample", seed, _Fixed(ignore_label, classes))


def flip(labels, ratio, *, num_classes=None, classes=None, ignore_label=None, seed=None):
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
        pick += pick >= _numbers(tile, values)
        return draws.choose(u < threshold, _classes(pick, values), tile)

    change = swap if others == 1 else choose
    return _redraw(labels, change, "flip", seed, _Fixed(ignore_label, classes))


def transition(labels, matrix, *, classes=None, ignore_label=None, seed=None):
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
        return _classes(draws.draw(tables, _numbers(tile, values), u), values)

    return _redraw(labels, change, "transition", seed, _Fixed(ignore_label, classes))


def random_labels(shape, fractions, *, seed=None):
    """Labels drawn at random, blind to any image.

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
    return _random(check_labels(blank), fractions, np.arange(fractions.size), seed, _Fixed())


def _random(labels, fractions, values, seed, fixed):
    tables = draws.alias_tables(fractions[None])
    values = values.astype(labels.dtype)

    def change(tile, u):
        return _classes(draws.draw(tables, 0, u), values)

    return _redraw(labels, change, "random", seed, fixed)


# --------------------------------------------------------------------------- perturbed labels


def shift(labels, radius, *, spatial_dims=2, classes=None, ignore_label=None, seed=None):
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
    fixed = _Fixed(ignore_label, classes)

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
        return _restore(out, block, stay)

    return map_blocks(move, labels, depth=_halo(labels, reach, spatial_dims))


def dilate(labels, radius, *, spatial_dims=2, classes=None, ignore_label=None):
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
    fixed = _Fixed(ignore_label, classes)
    ignored = _Fixed(ignore_label)

    def grow(block, start):
        stay = fixed(block)
        seeds = block if stay is None else np.where(stay, 0, block)
        grown = borders.expand(seeds, radius, spatial_dims)
        out = np.where(block == 0, grown, block)
        return _restore(out, block, ignored(block))

    return _on_integers(grow, labels, depth=_halo(labels, math.ceil(radius), spatial_dims))


def erode(labels, radius, *, spatial_dims=2, classes=None, ignore_label=None):
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
    fixed = _Fixed(ignore_label, classes)
    ignored = _Fixed(ignore_label)

    def shrink(block, start):
        unknown = ignored(block)
        info = np.iinfo(block.dtype)
        lowest = block if unknown is None else np.where(unknown, info.max, block)
        highest = block if unknown is None else np.where(unknown, info.min, block)
        lowest = borders.ball_filter(lowest, radius, np.minimum, spatial_dims)
        highest = borders.ball_filter(highest, radius, np.maximum, spatial_dims)
        return _restore(block * (lowest == highest), block, fixed(block))

    return _on_integers(shrink, labels, depth=_halo(labels, math.ceil(radius), spatial_dims))


def skeletonize(labels, *, spatial_dims=2, classes=None, ignore_label=None):
    """Thin each class to its skeleton, one pixel wide.

    Parameters
    ----------
    labels : (..., y, x) array of int or bool
    spatial_dims : {2, 3}, optional
        2: each (y, x) plane by itself (Zhang); 3: the last three axes together (Lee). Dask arrays
        are joined along these axes, for a skeleton hangs on the whole plane or volume.
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
    fixed = _Fixed(ignore_label, classes)

    def thin(block, start):
        stay = fixed(block)
        moving = block if stay is None else np.where(stay, 0, block)
        out = np.zeros_like(block)
        for index in np.ndindex(block.shape[:-spatial_dims]):
            out[index] = borders.skeletons(moving[index])
        return _restore(out, block, stay)

    whole = range(labels.ndim - spatial_dims, labels.ndim)
    return _on_integers(thin, labels, whole_axes=tuple(whole))


# --------------------------------------------------------------------------- one model for all

Kind = Literal["sample", "flip", "transition", "shift", "dilate", "erode", "skeletonize", "random"]

PARAMETERS = {
    "sample": ("fraction", "classes", "ignore_label", "seed"),
    "flip": ("ratio", "num_classes", "classes", "ignore_label", "seed"),
    "transition": ("matrix", "classes", "ignore_label", "seed"),
    "shift": ("radius", "spatial_dims", "classes", "ignore_label", "seed"),
    "dilate": ("radius", "spatial_dims", "classes", "ignore_label"),
    "erode": ("radius", "spatial_dims", "classes", "ignore_label"),
    "skeletonize": ("spatial_dims", "classes", "ignore_label"),
    "random": ("fractions", "classes", "ignore_label", "seed"),
}
"""Which fields of `NoiseSpec` belong to which kind, in the order of a form."""


def _plain(value):
    return value.tolist() if isinstance(value, np.ndarray) else value


class NoiseSpec(Parameters):
    """One corruption of labels: its kind and amounts.

    The fields that do not belong to the kind (see `PARAMETERS`) are ignored. Survives JSON:
    ``NoiseSpec(**json.loads(spec.model_dump_json()))`` equals ``spec``.
    """

    kind: Kind = Field(
        title="Kind",
        description="sample, flip, transition: each pixel redrawn by itself; shift, dilate, erode,"
        " skeletonize: borders move; random: blind to the labels.",
    )
    fraction: float = Field(
        0.1, ge=0, le=1, title="Fraction kept", description="Share of the foreground pixels kept."
    )
    ratio: float = Field(
        0.45, ge=0, le=1, title="Flip ratio", description="Probability of each pixel to change."
    )
    matrix: Annotated[tuple[tuple[float, ...], ...] | None, BeforeValidator(_plain)] = Field(
        None,
        title="Transition matrix",
        description="Row: true class, column: noisy class; rows sum to 1.",
    )
    radius: float = Field(
        1, ge=0, title="Radius", description="How far borders or pixels move, in pixels."
    )
    fractions: Annotated[tuple[float, ...] | float | None, BeforeValidator(_plain)] = Field(
        None,
        title="Class shares",
        description="Share of each class in random labels; none: as in the labels given.",
    )
    num_classes: int | None = Field(
        None, ge=2, title="Classes", description="Number of classes; none: those present."
    )
    classes: tuple[int, ...] | None = Field(
        None, title="Only classes", description="Only pixels of these classes change; none: all."
    )
    spatial_dims: Literal[2, 3] = Field(
        2, title="Dimensions", description="2: each plane by itself; 3: whole volumes."
    )
    ignore_label: int | None = Field(
        None, title="Ignore label", description="Pixels of this label, and of -1, stay untouched."
    )
    seed: int | tuple[int, ...] | None = Field(
        None, title="Seed", description="The same seed gives the same result; none: a new one."
    )

    @model_validator(mode="after")
    def _consistent(self):
        if self.kind == "transition":
            check_matrix(self.matrix)
        if self.fractions is not None:
            check_fractions(self.fractions)
        draws.entropy(self.seed, self.kind)
        return self

    def summary(self):
        """A short text, such as ``flip 45 % (seed 3)``."""
        amount = {
            "sample": f" {100 * self.fraction:g} %",
            "flip": f" {100 * self.ratio:g} %",
            "transition": f" {len(self.matrix or ())} x {len(self.matrix or ())}",
            "skeletonize": "",
            "random": "",
        }.get(self.kind, f" {self.radius:g} px")
        text = self.kind + amount
        if self.classes is not None:
            text += f" of class {', '.join(map(str, self.classes))}"
        if self.seed is not None and "seed" in PARAMETERS[self.kind]:
            text += f" (seed {self.seed})"
        return text


def corrupt(labels, spec_or_kind, **params):
    """Corrupt labels as described by a spec, or by several, one after the other.

    Parameters
    ----------
    labels : (..., y, x) array of int or bool
    spec_or_kind : NoiseSpec, str, mapping, or a sequence of these
        ``corrupt(labels, "flip", ratio=0.4, seed=1)`` is short for
        ``corrupt(labels, NoiseSpec(kind="flip", ratio=0.4, seed=1))``. In a chain each step draws
        numbers of its own, even where the seeds are the same.
    **params
        Fields of `NoiseSpec`, replacing those of the spec (of each spec of a chain).

    Returns
    -------
    array like `labels`

    Raises
    ------
    TypeError
        If the labels are not integers.
    ValueError
        If a parameter lies outside its range or does not fit the labels.
    """
    labels = check_labels(labels)
    steps = specs(spec_or_kind, **params)
    num_classes = None
    if len(steps) > 1 and any(step.kind == "flip" for step in steps):
        values = class_values(labels, None, steps[0].ignore_label)
        num_classes = len(values) if values[-1] == len(values) - 1 else None
    for position, step in enumerate(steps):
        labels = _step(labels, step, position, num_classes)
    return labels


def specs(spec_or_kind, **params):
    """The list of `NoiseSpec` that a spec, a kind, a mapping or a sequence of these stands for."""
    if isinstance(spec_or_kind, str):
        return [NoiseSpec(kind=spec_or_kind, **params)]
    if isinstance(spec_or_kind, (NoiseSpec, dict)):
        return [NoiseSpec.of(spec_or_kind, **params)]
    return [one for item in spec_or_kind for one in specs(item, **params)]


def _step(labels, spec, position, num_classes):
    values = {name: getattr(spec, name) for name in PARAMETERS[spec.kind]}
    if position and values.get("seed") is not None:
        values["seed"] = (*np.atleast_1d(spec.seed).tolist(), position)
    if spec.kind == "flip" and spec.num_classes is None:
        values["num_classes"] = num_classes
    if spec.kind == "random":
        return _randomised(labels, **values)
    return globals()[spec.kind](labels, **values)


def _randomised(labels, fractions, classes, ignore_label, seed):
    if fractions is None:
        values, counts = count_classes(labels, ignore_label)
        fractions = counts / max(counts.sum(), 1)
        if not counts.sum():
            return labels.copy()
    else:
        fractions = check_fractions(fractions)
        values = matrix_classes(labels, fractions.size, ignore_label, strict=False)
    return _random(labels, fractions, values, seed, _Fixed(ignore_label, classes))


# --------------------------------------------------------------------------- shared parts


def _redraw(labels, change, kind, seed, fixed):
    """Apply ``change(tile, u)`` with uniform draws u, tile by tile."""
    entropy = draws.entropy(seed, kind)
    shape = labels.shape

    def on_block(block, start):
        out = np.empty_like(block)
        for where, u in draws.tiles(block.shape, start, shape, entropy):
            tile = block[where]
            out[where] = _restore(change(tile, u), tile, fixed(tile))
        return out

    return map_blocks(on_block, labels)


class _Fixed:
    """Marks the pixels that an operation must leave alone; None where there are none."""

    def __init__(self, ignore_label=None, classes=None):
        self.ignored = {-1, ignore_label} - {None}
        self.classes = None if classes is None else np.atleast_1d(np.asarray(classes, int))

    def __call__(self, labels):
        fixed = [labels == value for value in self.ignored if fits(value, labels.dtype)]
        if self.classes is not None:
            fixed.append(~np.isin(labels, self.classes))
        return np.logical_or.reduce(fixed) if fixed else None


def _restore(out, labels, fixed):
    if fixed is not None:
        np.copyto(out, labels, where=fixed)
    return out


def fits(value, dtype):
    """Whether an integer or bool type can hold a value."""
    if dtype.kind == "b":
        return value in (0, 1)
    info = np.iinfo(dtype)
    return info.min <= value <= info.max


def _numbers(labels, values):
    """The number of each pixel's class among the sorted class values."""
    return labels if values[-1] == values.size - 1 else np.searchsorted(values, labels)


def _classes(numbers, values):
    """The class values that belong to numbers: the reverse of `_numbers`."""
    if values[-1] == values.size - 1:
        return numbers.astype(values.dtype, copy=False)
    return values[numbers]


def class_values(labels, num_classes, ignore_label):
    """Sorted values of the classes, at least two, in the type of the labels."""
    present = count_classes(labels, ignore_label)[0]
    if num_classes is None:
        values = np.union1d(present, [0])
        values = np.array([0, 1]) if values.size == 1 else values
    else:
        _check_top(present, num_classes, f"num_classes is {num_classes}")
        values = np.arange(num_classes)
    return _cast(values, labels.dtype)


def matrix_classes(labels, num_classes, ignore_label, strict=True):
    """Label values of the rows of a matrix: 0 to M - 1, or 0 and 255 for such a mask."""
    present = count_classes(labels, ignore_label)[0]
    if num_classes == 2 and set(present.tolist()) <= {0, 255} and 255 in present:
        return _cast(np.array([0, 255]), labels.dtype)
    if strict:
        _check_top(present, num_classes, f"the matrix has {num_classes} classes")
    return _cast(np.arange(num_classes), labels.dtype)


def _check_top(present, num_classes, text):
    if present.size and present[-1] >= num_classes:
        raise ValueError(
            f"{text}, so labels must lie between 0 and {num_classes - 1}, not {present[-1]}."
        )


def _cast(values, dtype):
    if not fits(int(values[-1]), dtype):
        raise ValueError(f"Labels of type {dtype} cannot hold class {values[-1]}.")
    return values.astype(dtype)


def _on_integers(function, labels, **options):
    """`map_blocks`, with bool labels seen as uint8."""

    def on_block(block, start):
        if block.dtype.kind == "b":
            return function(block.view(np.uint8), start).view(bool)
        return function(block, start)

    return map_blocks(on_block, labels, **options)


def _halo(labels, reach, spatial_dims):
    return (0,) * (labels.ndim - spatial_dims) + (reach,) * spatial_dims


def check_share(name, value):
    """A number from 0 to 1 as a float, or a ValueError."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must lie between 0 and 1, not {value}.")
    return float(value)


def check_radius(radius, name="radius"):
    """A finite number, 0 or more, as a float, or a ValueError."""
    if not 0 <= radius < math.inf:
        raise ValueError(f"{name} must be a non-negative number of pixels, not {radius}.")
    return float(radius)


def check_matrix(matrix):
    """A noise transition matrix as a float array, or a ValueError that says what is wrong."""
    if matrix is None:
        raise ValueError("transition noise needs a matrix, one row per true class.")
    matrix = np.array(matrix, float)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise ValueError(f"A transition matrix must be square, not of shape {matrix.shape}.")
    if not (np.isfinite(matrix).all() and (matrix >= 0).all()):
        raise ValueError("A transition matrix must hold probabilities, from 0 to 1.")
    wrong = np.flatnonzero(np.abs(matrix.sum(1) - 1) > 1e-6)
    if wrong.size:
        total = matrix[wrong[0]].sum()
        raise ValueError(f"Row {wrong[0]} of the transition matrix must sum to 1, not {total:g}.")
    return matrix


def check_fractions(fractions):
    """Shares of the classes as a float array, or a ValueError that says what is wrong."""
    if np.ndim(fractions) == 0:
        share = check_share("fractions", fractions)
        return np.array([1 - share, share])
    fractions = np.array(fractions, float)
    if fractions.ndim != 1 or not (fractions >= 0).all():
        raise ValueError("fractions must be a list of shares, none negative, one per class.")
    if abs(fractions.sum() - 1) > 1e-6:
        raise ValueError(f"fractions must sum to 1, not {fractions.sum():g}.")
    return fractions
