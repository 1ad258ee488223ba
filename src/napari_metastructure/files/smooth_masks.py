"""Masks that were saved as grey pictures, with smooth edges: told from labels, and made two values.

Scaling, turning, drawing and lossy files blur the borders of a mask. What is between its two
values then rises from one to the other, pixel by pixel, while each label covers an area.
"""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from napari_metastructure.arrays.blocks import is_lazy

__all__ = ["without_smooth_edges"]

_FULL = {255: range(240, 256), 65535: range(61440, 65536)}  # the highest values of such pictures
_SOME = 16  # blocks of a lazy array, or strips of a file, are looked at
_STRIP = 2**19  # pixels of a strip
_PART = 2**17  # pixels of a file that are looked at to tell a photograph
_SMALL = 2**10  # pixels of a picture: fewer tell nothing
_MANY = 64  # values of a photograph, at least
_PIECE = 2**22  # pixels counted at once, as counting takes eight bytes for each
_VALUES = 3  # between the two, at least: fewer may be classes
_RISING = 0.5  # of the pixels between, at least: of masks 0.64 and more, of labels at most 0.25
_FLAT = 0.2  # of these, at most: of masks below 0.06, of labels above 0.75, but for dust
_FEWEST = 32  # pixels between, in all files: too few tell nothing
_ALIKE, _ALIKE_FEW = 0.4, 0.1  # correlation with their neighbours: of labels at random, near 0


_PICTURE = (
    "{} is a grey picture, not labels: it should hold one whole number for each class or object, "
    "and no values between them."
)


class _Edges(NamedTuple):
    """Counts of the pixels of a file that have neither of the two values, and sums over these."""

    between: int = 0
    rising: int = 0  # with a lower and a higher neighbour
    flat: int = 0  # in a square of four pixels of one value
    sums: Any = np.zeros(5)  # of the values, of the means of their neighbours, and products

    @property
    def are_smooth(self) -> bool:
        return self.rising >= _RISING * self.between and self.flat <= _FLAT * self.between

    @property
    def correlation(self) -> float:
        """Of pixels with the mean of their neighbours: near 0 if labels are drawn at random."""
        x, y, xx, yy, xy = self.sums / max(self.between, 1)
        spread = np.sqrt(max(xx - x * x, 0) * max(yy - y * y, 0))
        return float((xy - x * y) / spread) if spread > 0 else 0.0


def without_smooth_edges(parts: Sequence[Any], paths: Sequence[Any]) -> list[Any]:
    """Labels of files that belong together; masks with smooth edges are divided at half height.

    Parameters
    ----------
    parts : sequence of Pixels
        Of integers or bool; of lazy ones some blocks are looked at.
    paths : sequence of path
        Named in notes and errors.

    Returns
    -------
    list of Pixels
        Labels as they are. Masks of 0 and 255, or of 16 bits 65535, if two values hold most pixels,
        and those between lie on borders only.

    Raises
    ------
    ValueError
        If it is a grey picture of another kind, such as a photograph, or a mask among labels.
    """
    blocks = [_blocks(part.data) for part in parts]
    full, counts = _histogram([block for some in blocks for block in some])
    if full is None:
        if parts and _is_picture(blocks[0][0]):
            raise ValueError(_PICTURE.format(paths[0]))
        return list(parts)
    if np.count_nonzero(counts) < 2 + _VALUES:
        return list(parts)
    low, high = _two_values(counts)
    edges = [
        _sum([_Edges(), *(_edges(strip, low, high) for strip in _strips(some, low, high))])
        for some in blocks
    ]
    whole = _sum(edges)
    least = _ALIKE if not _are_averages(counts, full) else _ALIKE_FEW
    if whole.between < _FEWEST or not whole.are_smooth or whole.correlation < least:
        return list(parts)
    if not _is_mask(counts, low, high):
        if counts.sum() < _SMALL:
            return list(parts)
        worst = max(zip(edges, paths), key=lambda pair: pair[0].between)[1]
        raise ValueError(_PICTURE.format(worst))
    for part, path in zip(edges, paths):
        if part.between >= 16 and not part.are_smooth:
            raise ValueError(
                f"{path} holds labels, but other files masks with smooth edges, of values from 0 "
                f"to {full}; give them one by one."
            )
    return _divided(parts, paths, full)


def _is_picture(block):
    """Whether it is a photograph, of whatever values, by a part of a plane."""
    plane = block.reshape(-1, *block.shape[-2:])[len(block) // 2 if block.ndim == 3 else 0]
    height = max(3, _PART // plane.shape[-1])
    start = max(0, (len(plane) - height) // 2)
    plane = plane[start : start + height]
    if plane.size < _SMALL or plane.min() < 0 or plane.max() >= 2**16:
        return False
    counts = np.bincount(plane.ravel())
    if np.count_nonzero(counts) < _MANY:
        return False
    edges = _edges(plane, *_two_values(counts))
    is_smooth = edges.are_smooth and edges.correlation >= _ALIKE
    return (is_smooth and edges.between > plane.size / 2) or _is_noisy(plane, counts.argmax())


def _is_noisy(plane, background):
    """Whether most neighbours, apart from a background of one value, differ a little.

    So do those of a photograph with a dark background (0.5 to 1.0 of the neighbours of real images,
    at most 0.4 of those in superpixels of eight pixels). Labels at random differ, too, but by any
    amount.
    """
    pairs = ((plane[:, :-1], plane[:, 1:]), (plane[:-1], plane[1:]))
    first, second = (np.concatenate([pair[i].ravel() for pair in pairs]) for i in (0, 1))
    seen = (first != background) & (second != background)
    differ = seen & (first != second)
    if seen.sum() < plane.size / 10 or differ.sum() <= seen.sum() / 2:
        return False
    first, second = first[differ].astype(float), second[differ].astype(float)
    spread = first.std() * second.std()
    alike = np.mean((first - first.mean()) * (second - second.mean()))
    return bool(0 < spread <= alike / _ALIKE)


def _divided(parts, paths, full):
    """The masks as two values, with one note for all that were not."""
    smooth = [path for part, path in zip(parts, paths) if is_lazy(part.data) or _is_more(part.data)]
    if not smooth:
        return list(parts)
    others = len(smooth) - 1
    what = f"and {others} more are masks" if others else "is a mask"
    warnings.warn(
        f"{smooth[0]} {what} with smooth edges, divided at half height into 0 and {full}.",
        stacklevel=4,
    )
    dtype = np.min_scalar_type(full)
    return [
        replace(part, data=(part.data > full // 2).astype(dtype) * dtype.type(full))
        for part in parts
    ]


def _is_more(array):
    """Whether there are more than two values."""
    return np.count_nonzero((array != array.min()) & (array != array.max())) > 0


def _blocks(array):
    """Numpy arrays: all of it, or some blocks of a lazy one."""
    if not is_lazy(array):
        return [array.view(np.uint8) if array.dtype == bool else array]
    import dask

    blocks = array.to_delayed().ravel()
    return list(dask.compute(*(blocks[number] for number in _spread(len(blocks)))))


def _histogram(blocks):
    """The number that stands for white, if all is between it and 0; and how often each value is."""
    top = max((int(block.max()) for block in blocks if block.size), default=0)
    full = next((full for full, tops in _FULL.items() if top in tops), None)
    if full is None or any(block.size and block.min() < 0 for block in blocks):
        return None, None
    pieces = (
        flat[k : k + _PIECE] for flat in map(np.ravel, blocks) for k in range(0, flat.size, _PIECE)
    )
    return full, sum(np.bincount(piece, minlength=full + 1) for piece in pieces)


def _two_values(counts):
    """The most frequent value of the lowest quarter, and that of the highest."""
    quarter = len(counts) // 4
    return int(counts[:quarter].argmax()), len(counts) - quarter + int(counts[-quarter:].argmax())


def _is_mask(counts, low, high):
    """Whether two values hold most pixels, and what is clearly between them is not much."""
    eighth = len(counts) // 8
    most = counts[low] + counts[high] >= counts.sum() / 2
    return most and counts[eighth:-eighth].sum() <= 4 * counts[high]


def _are_averages(counts, full):
    """Whether the values are those of 2 x 2, 3 x 3 or 4 x 4 pixels of a mask, averaged."""
    values = np.flatnonzero(counts)
    return any(
        np.abs(values - np.round(values / full * n) * full / n).max() <= 1 for n in (4, 9, 16)
    )


def _strips(blocks, low, high):
    """Some strips of planes in which there is more than the two values.

    Neighbours along other axes than y and x are further away, and say little.
    """
    strips = []
    for block in blocks:
        height = max(3, _STRIP // block.shape[-1])
        planes = block.reshape(-1, *block.shape[-2:])
        strips += [
            strip
            for plane in planes
            for strip in (plane[y : y + height] for y in range(0, len(plane), height))
            if ((strip != low) & (strip != high)).any()
        ]
    return [strips[number] for number in _spread(len(strips))]


def _spread(count):
    """Numbers from 0 to below `count`: all, or some at the same distances."""
    return np.linspace(0, count - 1, min(_SOME, count)).astype(int)


def _edges(plane, low, high):
    from scipy.ndimage import maximum_filter, minimum_filter, uniform_filter

    plane = plane.astype(np.int32)
    between = (plane != low) & (plane != high)
    rising = (minimum_filter(plane, 3) < plane) & (plane < maximum_filter(plane, 3))
    flat = np.zeros(plane.shape, bool)
    squares = (minimum_filter(plane, 2) == maximum_filter(plane, 2))[1:, 1:]
    for y in (slice(None, -1), slice(1, None)):
        for x in (slice(None, -1), slice(1, None)):
            flat[y, x] |= squares
    values = plane[between].astype(float)
    means = (9 * uniform_filter(plane.astype(float), 3)[between] - values) / 8
    pairs = ((values, 1), (means, 1), (values, values), (means, means), (values, means))
    sums = np.array([np.sum(one * other) for one, other in pairs])
    numbers = (between, rising & between, flat & between)
    return _Edges(*map(np.count_nonzero, numbers), sums)


def _sum(edges):
    return _Edges(*(sum(column) for column in zip(*edges)))
