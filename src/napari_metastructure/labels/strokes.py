"""Strokes of a brush: 0 not annotated, 1 background, 2 object, 3 and more further classes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from napari_metastructure.arrays.axes import channels_first
from napari_metastructure.arrays.blocks import planes
from napari_metastructure.files.fingerprint import digest

__all__ = [
    "MOST_CLASSES",
    "check_strokes",
    "check_values",
    "digest_under",
    "pack_strokes",
    "pixels_under",
    "simulate_strokes",
    "uncertainty",
    "unpack_strokes",
    "values_in",
]

MOST_CLASSES = 32
_MOST_KNOWN = 1000  # pixels of a plane by which an image is known again


def check_strokes(strokes: Sequence) -> np.ndarray:
    """The stroke values that occur, ascending, if a classifier can learn from them.

    Parameters
    ----------
    strokes : sequence of arrays
        Together one set; 0 is not annotated.

    Raises
    ------
    TypeError
        If they are not integers.
    ValueError
        If there are none, of one class only, negative, or of more than 32 classes.
    """
    found = set()
    for number, one in enumerate(strokes):
        one = np.asarray(one)
        if one.dtype.kind not in "biu":
            raise TypeError(f"Strokes must be integers, not {one.dtype} (array {number}).")
        found |= values_in(one)
    return check_values(found)


def values_in(strokes: np.ndarray) -> set[int]:
    """The values that occur, other than 0."""
    return set(np.unique(strokes[strokes != 0]).tolist())


def check_values(found: set[int]) -> np.ndarray:
    """As `check_strokes`, of the values that occur."""
    if min(found, default=0) < 0:
        raise ValueError(f"Strokes must not be negative, not {min(found)}.")
    values = np.array(sorted(found - {0}), dtype=int)
    if not len(values):
        raise ValueError("There are no strokes yet: paint 1 on background and 2 on objects.")
    if len(values) > MOST_CLASSES or values[-1] > 255:
        raise ValueError(
            f"There are {len(values)} different values, up to {values[-1]}: these look like "
            "numbered objects, not strokes. Strokes hold 1 for background, 2 for object and 3 "
            f"to {MOST_CLASSES} for further classes."
        )
    if values[0] != 1 or len(values) == 1:
        missing = "objects (2)" if values[0] == 1 else "background (1)"
        raise ValueError(
            f"The strokes hold only the value {', '.join(map(str, values))}; "
            f"add at least one stroke on {missing}."
        )
    return values


def pack_strokes(strokes: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Strokes, few pixels of many, as small arrays to save by name; see `unpack_strokes`."""
    packed: dict[str, np.ndarray] = {}
    for number, one in enumerate(strokes):
        one = np.asarray(one)
        where = np.argwhere(one > 0).astype(np.int32)
        packed[f"strokes.{number}.shape"] = np.array(one.shape, np.int64)
        packed[f"strokes.{number}.where"] = where
        packed[f"strokes.{number}.values"] = one[tuple(where.T)].astype(np.uint8)
    return packed


def unpack_strokes(packed: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The strokes, uint8, that `pack_strokes` packed; other arrays are passed over."""
    found = []
    while f"strokes.{len(found)}.shape" in packed:
        name = f"strokes.{len(found)}"
        one = np.zeros(tuple(packed[f"{name}.shape"]), np.uint8)
        one[tuple(packed[f"{name}.where"].T)] = packed[f"{name}.values"]
        found.append(one)
    return found


def pixels_under(
    image: Any, strokes: Any, channel_axis: int | None = None, spatial_dims: int = 2
) -> np.ndarray:
    """Values of the first thousand or so pixels under strokes, by which an image is known again.

    Parameters
    ----------
    image : array of real numbers
        Any kind; only planes (or volumes) with strokes are read.
    strokes : array of int
        Of the image's shape without channels.
    channel_axis : int, optional
    spatial_dims : {2, 3}

    Returns
    -------
    array of float32, (pixels, channels)
    """
    moved = channels_first(image, channel_axis, spatial_dims)
    parts = planes(moved, spatial_dims + (channel_axis is not None))
    found, count = [np.zeros((0, 1), np.float32)], 0
    for part, stroke in zip(parts, planes(strokes, spatial_dims)):
        if count >= _MOST_KNOWN:
            break
        where = np.asarray(stroke) > 0
        if where.any():
            values = np.asarray(part)[..., where].astype(np.float32)
            found.append(values.reshape(-1, values.shape[-1]).T[:_MOST_KNOWN])
            count += len(found[-1])
    return np.concatenate(found[count > 0 :])


def digest_under(
    image: Any, strokes: Any, channel_axis: int | None = None, spatial_dims: int = 2
) -> np.ndarray:
    """SHA-256 of `pixels_under`: it tells an image from others and holds nothing of it; uint8."""
    pixels = pixels_under(image, strokes, channel_axis, spatial_dims)
    return np.array(list(bytes.fromhex(digest(pixels))), np.uint8)


def uncertainty(probabilities: np.ndarray) -> np.ndarray:
    """One minus the margin of the two likeliest classes.

    Parameters
    ----------
    probabilities : array of float, (classes, ...)

    Returns
    -------
    array of float32, (...)
        0 certain, 1 not decided.
    """
    top = np.partition(np.asarray(probabilities), -2, axis=0)[-2:]
    return (1 - (top[1] - top[0])).astype(np.float32)


def simulate_strokes(
    labels: np.ndarray,
    number: int = 8,
    length: int = 20,
    *,
    classes: Sequence[int] | None = None,
    seed: int | np.random.Generator | None = None,
) -> np.ndarray:
    """Strokes as a user might paint them: short random walks inside each class of a label image.

    Parameters
    ----------
    labels : array of int, (y, x) or (z, y, x)
        A complete annotation, 0 background.
    number : int
        Strokes per class.
    length : int
        Steps of a walk, in pixels.
    classes : sequence of int, optional
        Label values to paint; by default those that occur.
    seed : int or numpy.random.Generator, optional

    Returns
    -------
    array of uint8
        The label plus 1 under a stroke, else 0.
    """
    labels, rng = np.asarray(labels), np.random.default_rng(seed)
    strokes = np.zeros(labels.shape, np.uint8)
    for value in np.unique(labels) if classes is None else classes:
        inside = labels == value
        places = np.argwhere(inside)
        for place in places[rng.integers(len(places), size=number)] if len(places) else ():
            _walk(strokes, inside, place, length, value + 1, rng)
    return strokes


def _walk(strokes, inside, place, length, value, rng):
    """Paint a walk in the last two axes that keeps its direction as far as the class allows."""
    place = np.array(place)
    angle = rng.uniform(0, 2 * np.pi)
    exact = place.astype(float)
    strokes[tuple(place)] = value
    for _ in range(length):
        for turn in (0.3, 0.8, 1.6, 3.1):
            tried = angle + rng.normal(0, turn)
            ahead = exact.copy()
            ahead[-2:] += np.sin(tried), np.cos(tried)
            index = tuple(np.rint(ahead).astype(int))
            within = all(0 <= i < side for i, side in zip(index, inside.shape))
            if within and inside[index]:
                exact, angle = ahead, tried
                strokes[index] = value
                break
