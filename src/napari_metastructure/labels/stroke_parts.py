"""Strokes as connected parts: numbered, and split into those to learn from and to judge by."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["hold_out", "stroke_numbers"]


def hold_out(
    strokes: Sequence[NDArray],
    share: float = 0.25,
    least: int = 4,
    seed: int | np.random.Generator | None = None,
) -> tuple[list[NDArray], list[NDArray] | None]:
    """Split strokes, whole ones, into those to learn from and those to judge by.

    Parameters
    ----------
    strokes : sequence of arrays of int
        Connected pixels of one value are one stroke.
    share : float, (0, 1)
        Of the strokes of each class that is held out.
    least : int
        Strokes that every class should have.
    seed : int or numpy.random.Generator, optional

    Returns
    -------
    taught, held_out : lists of arrays
        Of the strokes' shapes; `held_out` is None if a class has fewer strokes than `least`.
    """
    rng = np.random.default_rng(seed)
    strokes = [np.asarray(stroke) for stroke in strokes]
    painted = [k for k, stroke in enumerate(strokes) if stroke.any()]
    taught, held_out = list(strokes), [np.zeros_like(stroke) for stroke in strokes]
    for k in painted:
        taught[k] = strokes[k].copy()
    for value in sorted({int(v) for k in painted for v in np.unique(strokes[k][strokes[k] > 0])}):
        numbered = {k: _numbered(strokes[k] == value) for k in painted}
        every = [(k, n + 1) for k, (_, count) in numbered.items() for n in range(count)]
        if len(every) < least:
            return strokes, None
        for index in rng.permutation(len(every))[: max(1, round(share * len(every)))]:
            plane, number = every[index]
            where = numbered[plane][0] == number
            held_out[plane][where] = value
            taught[plane][where] = 0
    return taught, held_out


def stroke_numbers(strokes: Sequence[NDArray]) -> NDArray:
    """The stroke that each annotated pixel belongs to, in the order of ``stroke[stroke > 0]``."""
    found, last = [], 0
    for stroke in strokes:
        numbers = np.zeros(stroke.shape, np.int64)
        for value in np.unique(stroke[stroke > 0]):
            parts, count = _numbered(stroke == value)
            numbers[parts > 0] = parts[parts > 0] + last
            last += count
        found.append(numbers[stroke > 0])
    return np.concatenate(found)


def _numbered(mask):
    """Connected parts, corners counting, and how many there are."""
    from scipy.ndimage import generate_binary_structure, label

    return label(mask, generate_binary_structure(mask.ndim, mask.ndim))
