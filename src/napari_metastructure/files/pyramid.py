"""Coarser levels of an image, each with half the rows and columns of the one before.

They are made while the image is written, block by block. A chunk of a level comes from one chunk of
the image alone, so that several processes may write chunks at the same time.
"""

from typing import Any

import numpy as np

__all__ = ["coarser_levels", "halved", "update"]

_LARGEST_SIDE = 512  # an image of no more pixels in a row needs no coarser level
_SMALLEST_CHUNK = 128


def coarser_levels(
    shape: tuple[int, ...], chunks: tuple[int, ...]
) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Shapes and chunks of the levels below an image.

    Parameters
    ----------
    shape, chunks : tuple of int
        Of the image, rows and columns last.

    Returns
    -------
    list of (shape, chunks)
        None where the image is small, or its chunks cannot be halved.

    Examples
    --------
    >>> coarser_levels((3, 2000, 1500), (1, 1024, 1024))
    [((3, 1000, 750), (1, 512, 512)), ((3, 500, 375), (1, 256, 256))]
    """
    levels: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    while max(shape[-2:]) > _LARGEST_SIDE and all(map(_can_be_halved, chunks[-2:], shape[-2:])):
        shape = (*shape[:-2], *(-(-side // 2) for side in shape[-2:]))
        chunks = (*chunks[:-2], *(-(-side // 2) for side in chunks[-2:]))
        levels.append((shape, chunks))
    return levels


def _can_be_halved(chunk: int, side: int) -> bool:
    """A chunk that reaches from end to end may be of any size."""
    return chunk >= side or (chunk % 2 == 0 and chunk >= 2 * _SMALLEST_CHUNK)


def halved(block: np.ndarray, mean: bool) -> np.ndarray:
    """Every second row and column of a block, or means of two by two pixels.

    Parameters
    ----------
    block : array, (..., y, x)
    mean : bool
        Means, rounded for integers; else, as for labels, the first pixel of each four.

    Returns
    -------
    array of the block's type, (..., y / 2, x / 2) rounded up
        Rows and columns at an end stand for themselves.
    """
    if not mean:
        return block[..., ::2, ::2]
    odd = [side % 2 for side in block.shape[-2:]]
    if any(odd):
        block = np.pad(block, [(0, 0)] * (block.ndim - 2) + [(0, more) for more in odd], "edge")
    quarters = [block[..., y::2, x::2] for y in (0, 1) for x in (0, 1)]
    found: Any = sum(quarter.astype(np.result_type(block, np.float32)) for quarter in quarters) / 4
    return (found if block.dtype.kind == "f" else np.rint(found)).astype(block.dtype)


def update(array: Any, levels: list[Any], where: Any, block: Any, mean: bool) -> None:
    """Bring the coarser levels up to date with a block that was written to the image.

    Parameters
    ----------
    array : array with a ``shape``, written and read by index
        The image.
    levels : list of such arrays
        Below it, the finest first.
    where : index
        Of the block: numbers, slices and an ellipsis.
    block : array
        What was written, or what was spread over the index.
    mean : bool
        As for `halved`.
    """
    step = 2 ** len(levels)
    box = _box(where, array.shape)
    if any(part.start >= part.stop for part in box):
        return
    wide = list(box)
    for axis in (-2, -1):
        start, stop = box[axis].start // step * step, -(-box[axis].stop // step) * step
        wide[axis] = slice(start, min(stop, array.shape[axis]))
    shape = tuple(part.stop - part.start for part in box)
    if wide == box and np.size(block) == np.prod(shape):
        pixels = np.asarray(block, array.dtype).reshape(shape)
    else:  # the block ends within a pixel of a coarser level
        pixels = np.asarray(array[tuple(wide)])
    for number, level in enumerate(levels, 1):
        pixels = halved(pixels, mean)
        starts = [part.start // 2**number for part in wide[-2:]]
        ends = [start + side for start, side in zip(starts, pixels.shape[-2:])]
        level[(*wide[:-2], *map(slice, starts, ends))] = pixels


def _box(where: Any, shape: tuple[int, ...]) -> list[slice]:
    """The smallest box of pixels, one slice per axis, around an index."""
    where = where if isinstance(where, tuple) else (where,)
    if Ellipsis in where:
        at = where.index(Ellipsis)
        filled = (slice(None),) * (len(shape) - len(where) + 1)
        where = (*where[:at], *filled, *where[at + 1 :])
    where = (*where, *[slice(None)] * (len(shape) - len(where)))
    box = []
    for part, side in zip(where, shape):
        if isinstance(part, slice):
            numbers = range(side)[part]
            ends = (numbers[0], numbers[-1]) if len(numbers) else (0, -1)
        else:
            ends = (range(side)[int(part)],) * 2
        box.append(slice(min(ends), max(ends) + 1))
    return box
