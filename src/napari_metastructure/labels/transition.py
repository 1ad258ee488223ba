"""Noise transition matrices: what the noise does to each class, and what is left of them.

``Q[j, i]`` is the probability that a pixel truly of class j carries class i in the noisy label
(Luo et al., AAAI 2022, arXiv 2103.11594, noise transition matrix; Lemma 2, Theorems 1 and 2).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_metastructure.arrays.blocks import as_array, sum_blocks
from napari_metastructure.arrays.labels import check_labels, count_classes
from napari_metastructure.labels.classes import check_fractions, check_matrix, check_whole
from napari_metastructure.labels.noise import specs

__all__ = [
    "Verdict",
    "count",
    "displacement",
    "estimate",
    "interval",
    "judge",
    "of",
    "rank",
    "verdict",
]

MOST_CLASSES = 1000
FAINT = 0.005  # squared contrast over variance of a pixel: one in hundreds of pixels counts
CORRELATED = 0.01  # correlation between changes of neighbours from which borders have moved
DEEPEST = 256  # depths in pixels that are told apart


# --------------------------------------------------------------------------- matrices


def of(spec: Any, num_classes: int | None, *, fractions: Any = None) -> np.ndarray:
    """The transition matrix of a corruption, in closed form.

    Parameters
    ----------
    spec : NoiseSpec, str, mapping, or a sequence of these
        What `noise.corrupt` takes. The matrices of a chain are multiplied.
    num_classes : int
        Number of classes, background included.
    fractions : float or sequence of float, optional
        Share of each class in the clean label, needed for the kind "random" where the spec has no
        fractions of its own.

    Returns
    -------
    (num_classes, num_classes) array of float64
        Row: true class, column: noisy class; rows sum to 1.

    Raises
    ------
    ValueError
        For perturbations (shift, dilate, erode, skeletonize), which have no matrix of their own,
        and for specs that do not fit the number of classes.
    """
    matrix = np.eye(check_whole("num_classes", num_classes, 1, MOST_CLASSES))
    if fractions is not None:
        fractions = check_fractions(fractions)
    for step in specs(spec):
        shares = None if fractions is None else fractions @ matrix
        matrix = matrix @ _closed_form(step, num_classes, shares)
    return matrix


def _closed_form(spec, size, shares):
    matrix = spec.noise().closed_form(size, shares)
    if len(matrix) != size:
        raise ValueError(
            f"This {spec.kind} noise is made for {len(matrix)} classes, not for {size}."
        )
    if spec.classes is not None:
        matrix = np.where(np.isin(np.arange(size), spec.classes)[:, None], matrix, np.eye(size))
    return matrix


def count(
    clean: Any, noisy: Any, num_classes: int | None = None, *, ignore_label: int | None = None
) -> np.ndarray:
    """How many pixels of each true class carry each noisy class.

    Parameters
    ----------
    clean, noisy : arrays of int or bool, of one shape
        Numpy or dask. Pixels that are -1, or `ignore_label`, in either are left out.
    num_classes : int, optional
        Classes are 0 to ``num_classes - 1``; by default up to the greatest label. A mask with a
        single foreground value, such as 255, counts as classes 0 and 1.
    ignore_label : int, optional

    Returns
    -------
    (M, M) array of int64
        Row: true class, column: noisy class.

    Raises
    ------
    TypeError
        If the labels are not integers.
    ValueError
        If the shapes differ, labels lie outside the classes, or there are more than 1000 classes.
    """
    clean, noisy = check_labels(clean), check_labels(noisy)
    _check_shapes(clean, noisy)
    tops = [count_classes(labels, ignore_label)[0] for labels in (clean, noisy)]
    if num_classes is None:
        binary = all(np.count_nonzero(values) <= 1 for values in tops)
        num_classes = 2 if binary else 1 + max(values.max(initial=0) for values in tops)
    else:
        binary = False
        check_whole("num_classes", num_classes, 1, MOST_CLASSES)
    top = -1 if binary else max(values.max(initial=0) for values in tops)
    if top >= num_classes:
        raise ValueError(f"Labels must lie between 0 and {num_classes - 1}, not {top}.")
    if num_classes > MOST_CLASSES:
        raise ValueError(
            f"{num_classes} classes are too many; if the labels number objects, make a mask of "
            "them first."
        )

    def on_block(clean, noisy):
        known = both_known(clean, noisy, ignore_label)
        if binary:
            clean, noisy = clean != 0, noisy != 0
        pairs = clean[known].astype(np.intp) * num_classes + noisy[known].astype(np.intp)
        return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)

    return sum_blocks(on_block, clean, noisy)


def estimate(
    clean: Any,
    noisy: Any,
    num_classes: int | None = None,
    *,
    ignore_label: int | None = None,
    return_interval: bool = False,
) -> Any:
    """The transition matrix by counting, from a clean and a noisy label.

    Parameters
    ----------
    clean, noisy, num_classes, ignore_label
        As in `count`.
    return_interval : bool, optional
        Also return the 95 % confidence limits.

    Returns
    -------
    matrix : (M, M) array of float64
        Rows sum to 1; the row of a class without pixels in the clean label is NaN.
    low, high : (M, M) arrays of float64
        Only with `return_interval`; see `interval`.

    Raises
    ------
    TypeError, ValueError
        As in `count`.
    """
    counts = count(clean, noisy, num_classes, ignore_label=ignore_label)
    matrix = normalised(counts)
    return (matrix, *interval(counts)) if return_interval else matrix


def normalised(counts: Any) -> np.ndarray:
    """Counts as shares of each row; NaN for rows without pixels."""
    with np.errstate(invalid="ignore"):
        return counts / counts.sum(1, keepdims=True)


def interval(counts: Any, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Confidence limits of a counted matrix (Wilson's score interval).

    Parameters
    ----------
    counts : (M, M) array of int
        From `count`.
    confidence : float in (0, 1), optional

    Returns
    -------
    low, high : (M, M) arrays of float64
        0 and 1 in the row of a class without pixels.
    """
    from scipy.special import ndtri

    return _wilson(counts, counts.sum(1, keepdims=True), ndtri((1 + confidence) / 2))


def _wilson(count, total, z):
    centre = (count + z**2 / 2) / (total + z**2)
    spread = count * (total - count) / np.maximum(total, 1) + z**2 / 4
    half = z * np.sqrt(spread) / (total + z**2)
    return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)


# --------------------------------------------------------------------------- what is left


def rank(matrix: Any, counts: Any = None) -> int:
    """The number of semantic classes left in the noisy label (Lemma 2).

    Parameters
    ----------
    matrix : (M, M) array of float
        Rows of NaN (classes without pixels) are left out.
    counts : (M, M) or (M,) array of int, optional
        Pixels counted per entry or per row, if the matrix was estimated: singular values within
        the counting error then count as zero.

    Returns
    -------
    int
        From 0 to M.

    Notes
    -----
    Rows are multiplied by the square root of their pixels, which leaves the rank as it is and
    gives all rows the same counting error. By Weyl's inequality no singular value is moved by more
    than the norm of the error, so that three times its expected (Frobenius) norm is the tolerance.
    """
    matrix = _checked(matrix)
    known = np.isfinite(matrix).all(1)
    rows = matrix[known]
    if counts is None:
        values = np.linalg.svd(rows, compute_uv=False)
        return int((values > 1e-6).sum())
    total = _totals(counts, len(matrix))[known][:, None]
    values = np.linalg.svd(rows * np.sqrt(total), compute_uv=False)
    return int((values > 3 * np.sqrt(_variance(rows, total).sum())).sum())


def _totals(counts, size):
    """Pixels counted per row, given per row or per entry."""
    try:
        total = np.asarray(counts, float)
    except (ValueError, TypeError):
        total = np.array(np.nan)
    total = total.sum(1) if total.ndim == 2 else total
    if total.ndim != 1 or len(total) != size or not (total >= 0).all():
        raise ValueError(f"counts must hold the numbers of pixels of {size} classes.")
    return total


def _variance(rows, total):
    """Of one draw; never quite zero, for what was not seen may still be rare."""
    share = (rows * total + 0.5) / (total + 1)
    return share * (1 - share)


@dataclass(frozen=True)
class Verdict:
    """What the noise left of the classes; ``str()`` gives the sentence.

    Attributes
    ----------
    kind : {"kept", "inverted", "exchanged", "merged", "bent", "gone"}
    text : str
        One sentence.
    rank : int
        Number of classes left.
    num_classes : int
        Number of classes in the clean label.
    merged : tuple of tuple of int
        Groups of classes that cannot be told apart any more.
    displacement : float
        How far borders moved, in pixels; 0 if they did not.
    """

    kind: str
    text: str
    rank: int
    num_classes: int
    merged: tuple = ()
    displacement: float = 0.0

    def __str__(self):
        return self.text


def verdict(matrix: Any, counts: Any = None, *, displacement: float = 0) -> Verdict:
    """Say in plain words what a network can still learn from the noisy label.

    Parameters
    ----------
    matrix : (M, M) array of float
        Rows of NaN (classes without pixels) are left out.
    counts : (M, M) or (M,) array of int, optional
        As in `rank`.
    displacement : float, optional
        How far borders moved, in pixels, where the noise is a perturbation.

    Returns
    -------
    Verdict

    Notes
    -----
    Full rank: the meaning is kept (Theorem 2). Rank 1: gone. In between: classes with equal rows
    are merged. A full-rank matrix is judged by its columns: where noisy class i is most often seen
    on true class i the classes are kept; where least often, inverted. A perturbation bends the
    structure, the more the further it moves borders (Theorem 1).
    """
    matrix = _checked(matrix)
    known = np.flatnonzero(np.isfinite(matrix).all(1))
    rows = matrix[known]
    size, left = known.size, rank(matrix, counts)
    if size < 2:
        raise ValueError("A verdict needs at least two classes in the clean label.")
    if left <= 1:
        kind, text = "gone", "Lost: the noisy label carries no information about the classes."
    elif displacement:
        kind, text = "bent", f"Distorted: borders moved by about {_pixels(displacement)}."
    elif left < size:
        groups = _equal_rows(rows, known, counts, len(matrix))
        merged = tuple(tuple(known[group].tolist()) for group in groups)
        return Verdict("merged", _merged_text(merged, left, size), left, size, merged)
    else:
        kind, text = _full_rank(rows, known)
    return Verdict(kind, text, left, size, displacement=float(displacement))


def _full_rank(rows, known):
    seen = rows[:, known]  # noisy classes that are also true ones
    order = np.arange(len(seen))
    winner = seen.argmax(0)
    if (winner == order).all():
        return "kept", _kept_text(seen)
    if (seen.argmin(0) == order).all():
        return "inverted", "Preserved, but inverted: invert the network's prediction."
    if (np.sort(winner) == order).all():
        pairs = [f"{known[w]} as {known[i]}" for i, w in enumerate(winner) if i != w]
        return "exchanged", f"Preserved, but classes are exchanged: {', '.join(pairs)}."
    return "kept", "Preserved, but classes are mixed: the matrix separates them."


def _kept_text(rows):
    size = len(rows)
    text = (
        "Preserved: both classes can be learnt"
        if size == 2
        else f"Preserved: all {size} classes can be learnt"
    )
    contrast = np.linalg.svd(rows, compute_uv=False)[-1]
    if contrast**2 < FAINT * (rows * (1 - rows)).mean():
        text = text.replace("Preserved", "Weakly preserved", 1)
    if size == 2 and abs(rows[:, 1].mean() - 0.5) > 0.05:
        text += f", with a threshold near {rows[:, 1].mean():.2g}"
    return text + "."


def _equal_rows(rows, known, counts, size):
    """Groups of two or more rows that do not differ beyond the counting error."""
    error = np.full(len(rows), 1e-6)
    if counts is not None:
        total = _totals(counts, size)[known][:, None]
        error = 3 * np.sqrt(_variance(rows, total).sum(1) / total[:, 0])
    groups, free = [], list(range(len(rows)))
    while free:
        first = free[0]
        distance = np.linalg.norm(rows[free] - rows[first], axis=1)
        near = distance <= np.hypot(error[free], error[first])
        groups.append([i for i, is_near in zip(free, near) if is_near])
        free = [i for i, is_near in zip(free, near) if not is_near]
    return [group for group in groups if len(group) > 1]


def _merged_text(merged, left, size):
    if not merged:
        return (
            f"Classes merged: {left} of {size} can be told apart, the others are mixtures of these."
        )
    names = "; ".join(" and ".join(map(str, group)) for group in merged)
    return f"Classes merged: {names} cannot be told apart; {left} of {size} classes are left."


def _pixels(distance):
    if distance < 1.5:
        return "1 pixel"
    return f"{distance:.0f} pixels" if distance >= 10 else f"{round(2 * distance) / 2:g} pixels"


# --------------------------------------------------------------------------- moved borders


def judge(
    clean: Any,
    noisy: Any,
    num_classes: int | None = None,
    *,
    ignore_label: int | None = None,
    spatial_dims: int = 2,
) -> Verdict:
    """The verdict on a noisy label, from the labels alone.

    Borders count as moved where neighbouring pixels change together; randomisation changes each
    pixel independently.

    Parameters
    ----------
    clean, noisy, num_classes, ignore_label
        As in `count`.
    spatial_dims : {2, 3}, optional
        Whether distances are taken in planes or in volumes.

    Returns
    -------
    Verdict

    Raises
    ------
    TypeError, ValueError
        As in `count`, and if the clean label has only one class.
    """
    counts = count(clean, noisy, num_classes, ignore_label=ignore_label)
    moved = 0.0
    if _are_connected(clean, noisy, ignore_label):
        moved = displacement(clean, noisy, ignore_label=ignore_label, spatial_dims=spatial_dims)
    return verdict(normalised(counts), counts, displacement=moved)


def displacement(
    clean: Any, noisy: Any, *, ignore_label: int | None = None, spatial_dims: int = 2
) -> float:
    """How far borders moved, in pixels.

    Parameters
    ----------
    clean, noisy : arrays of int or bool, of one shape
        Numpy or dask.
    ignore_label : int, optional
    spatial_dims : {2, 3}, optional
        Whether distances are taken in planes or in volumes.

    Returns
    -------
    float
        0 where borders stayed.

    Notes
    -----
    The share of changed pixels of each class is taken as a function of their depth, the distance
    to the nearest border of the clean label. A border moved by k changes all pixels down to depth
    k; a randomisation changes all depths alike and does not count. The width of the excess over
    the depth with the smallest share is the displacement; classes are averaged with the pixels in
    excess as weights. Where structures are thinner than the move, the result is smaller than the
    move.
    """
    clean, noisy = check_labels(clean, spatial_dims), check_labels(noisy, spatial_dims)
    _check_shapes(clean, noisy)
    values = count_classes(clean, ignore_label)[0]

    def on_block(clean, noisy):
        known = both_known(clean, noisy, ignore_label)
        depth = np.empty(clean.shape, np.intp)
        for index in np.ndindex(clean.shape[:-spatial_dims]):
            depth[index] = _depth(clean[index])
        cell = np.searchsorted(values, clean[known]) * DEEPEST + depth[known]
        changed = (clean != noisy)[known]
        size = values.size * DEEPEST
        return np.stack([np.bincount(cell, minlength=size), np.bincount(cell, changed, size)])

    whole = range(clean.ndim - spatial_dims, clean.ndim)
    pixels, changed = sum_blocks(on_block, clean, noisy, whole_axes=whole)
    pixels, changed = pixels.reshape(-1, DEEPEST), changed.reshape(-1, DEEPEST)
    moves = np.array([_excess(n, c) for n, c in zip(pixels, changed) if n.any()]).reshape(-1, 2)
    weights = moves[:, 1].sum()
    return float(moves.prod(1).sum() / weights) if weights else 0.0


def _depth(labels):
    """Distance of each pixel to the nearest border between classes, from 1, in whole pixels."""
    from scipy.ndimage import distance_transform_edt

    border = np.zeros(labels.shape, bool)
    for axis in range(labels.ndim):
        differ = np.diff(labels, axis=axis) != 0
        np.moveaxis(border, axis, 0)[1:] |= np.moveaxis(differ, axis, 0)
        np.moveaxis(border, axis, 0)[:-1] |= np.moveaxis(differ, axis, 0)
    if not border.any():
        return DEEPEST - 1
    return np.minimum(np.rint(distance_transform_edt(~border)) + 1, DEEPEST - 1)


def _excess(pixels, changed):
    """Width in depth, and number of pixels, by which changes exceed those at the calmest depth."""
    held = pixels > 0
    pixels, changed = pixels[held], changed[held]
    share = changed / pixels
    low, high = _wilson(changed, pixels, 3)
    excess = np.where(low > high.min(), share - high.min(), 0)
    return (excess.sum() / excess.max(), (excess * pixels).sum()) if excess.any() else (0, 0)


def _check_shapes(clean, noisy):
    if clean.shape != noisy.shape:
        raise ValueError(
            f"Clean and noisy labels must have one shape, not {clean.shape} and {noisy.shape}."
        )


def both_known(clean: Any, noisy: Any, ignore_label: int | None) -> Any:
    """Pixels that are ignored in neither of two numpy arrays."""
    known = (clean != -1) & (noisy != -1)
    if ignore_label is not None:
        known &= (clean != ignore_label) & (noisy != ignore_label)
    return known


def _are_connected(clean, noisy, ignore_label):
    """Whether changes of neighbours go together beyond what their classes and chance explain."""

    def on_block(clean, noisy):
        known = both_known(clean, noisy, ignore_label)
        changed = (clean != noisy) & known
        classes = np.unique(clean, return_inverse=True)[1].ravel()
        pixels = np.bincount(classes, known.ravel())
        rate = np.bincount(classes, changed.ravel()) / np.maximum(pixels, 1)
        rest = (changed - rate[classes].reshape(clean.shape)) * known
        pairs = rest[..., 1:] * rest[..., :-1], rest[..., 1:, :] * rest[..., :-1, :]
        squares = sum((pair**2).sum() for pair in pairs)
        return np.array([sum(pair.sum() for pair in pairs), squares, 2 * (rest**2).sum()])

    together, squares, alone = sum_blocks(on_block, as_array(clean), as_array(noisy))
    return together > CORRELATED * alone and together > 4 * np.sqrt(squares)


def _checked(matrix):
    """A matrix whose rows may be NaN, for classes without pixels, or an error."""
    try:
        matrix = np.array(matrix, float)
    except (ValueError, TypeError):
        matrix = np.array(np.nan)
    if matrix.ndim != 2 or not matrix.size:
        return check_matrix(matrix)
    unknown = np.isnan(matrix).all(-1, keepdims=True)
    check_matrix(np.where(unknown, 1 / matrix.shape[-1], matrix))
    return matrix
