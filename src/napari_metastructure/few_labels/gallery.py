"""The best start masks of one plane that differ from each other, as they are found."""

from collections.abc import Iterator
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_metastructure.arrays.intensity import unit_range
from napari_metastructure.few_labels.field_of_view import filled
from napari_metastructure.few_labels.filters import GROUPS, Views
from napari_metastructure.few_labels.ranking import Judge, Start, evenly_spread

__all__ = ["gallery"]

_STEP = 128  # pixels between parts that are tried
_MOST_LOOKED_AT = 2000  # pixels of strokes of a kind


def gallery(
    plane: ArrayLike,
    *,
    strokes: ArrayLike | None = None,
    polarity: str = "auto",
    count: int = 6,
    dark: NDArray | None = None,
) -> Iterator[list[tuple[Start, NDArray]]]:
    """Yield the best starts that differ and their masks, better ones as more are made.

    Parameters
    ----------
    plane : array, (y, x)
        Any real type. Of a large one a part of 512 x 512 pixels is judged, the middle or where most
        of the strokes are; masks are whole.
    strokes : array of int, (y, x), optional
        0 not annotated, 1 background, 2 and above object: then those come first that agree best.
    polarity : {"auto", "bright", "dark"}
        "auto": the likely one first, and some masks of the other one; where the plane does not
        tell, bright and dark take turns.
    count : int
        How many, at most.
    dark : array of float, optional
        Surroundings that the plane shares with others, of `field_of_view`; they are filled.

    Yields
    ------
    list of (Start, array of bool)
        Best first, pairwise Dice below 0.9; after the quickest masks, and twice more. Between
        these an empty list, so that the work can be stopped. A constant plane yields nothing.

    Raises
    ------
    ValueError
        If the plane holds NaN or infinity, or the strokes have another shape.
    """
    bright = unit_range(plane if dark is None else filled(plane, dark), "bright")
    if bright is None:
        return
    if strokes is not None and np.shape(strokes) != bright.shape:
        raise ValueError(
            f"The strokes have shape {np.shape(strokes)} but the plane {bright.shape}; "
            "they should be the same."
        )
    ((_, where),) = evenly_spread([bright])
    if strokes is not None and np.any(strokes):
        where = _most_painted(np.asarray(strokes), where)
    marks = None if strokes is None else [np.asarray(strokes)[where]]
    judge = Judge([bright[where]], polarity, keep=True, both=marks is not None)
    views = {each: Views(bright if each == "bright" else 1 - bright) for each in judge.polarities}
    for done, total in judge.work():
        if done not in (1, len(GROUPS), total):
            yield []
            continue
        ranking, painted = judge.ranking(marks), marks is not None and marks[0].any()
        starts = (judge.different if painted else judge.suggested)(ranking, count)
        yield [(start, views[start.polarity].mask(start.name)) for start in starts]


def _most_painted(strokes, where):
    """The part, of the size of the one given, that holds most of the strokes of both kinds."""
    kinds = [np.argwhere(kind) for kind in (strokes == 1, strokes > 1)]
    kinds = [kind[:: -(-len(kind) // _MOST_LOOKED_AT)] for kind in kinds if len(kind)]
    sides = np.array([part.stop - part.start for part in where])
    spare = [whole - side for whole, side in zip(strokes.shape, sides)]
    corners = [
        tuple(part.start for part in where),
        *product(*([*range(0, most, _STEP), most] for most in spare)),
    ]
    held = [
        sum(((kind >= corner) & (kind < corner + sides)).all(axis=1).mean() for kind in kinds)
        for corner in corners
    ]
    corner = corners[int(np.argmax(held))]  # the first, if others hold as many
    return tuple(slice(start, start + side) for start, side in zip(corner, sides.tolist()))
