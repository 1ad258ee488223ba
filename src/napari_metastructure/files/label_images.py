"""Files that hold labels: one number per pixel, also where pictures of colours were saved."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_metastructure.arrays.blocks import is_lazy
from napari_metastructure.arrays.labels import as_labels
from napari_metastructure.files.pixels import Pixels
from napari_metastructure.files.smooth_masks import without_smooth_edges

__all__ = ["label_images", "read_indexed", "with_colours_of"]

_MOST_COLOURS = 64
"""Pictures of more colours than that are no masks."""

_LOSSY = (".jpg", ".jpeg")
_BETWEEN = 0.1  # of the pixels of objects: how many borders may blur to neither 0 nor 255


def read_indexed(path: str | Path) -> tuple[Any, tuple[int, ...]]:
    """A PNG, GIF, BMP or JPEG picture, a palette's numbers in place of its colours.

    Parameters
    ----------
    path : path

    Returns
    -------
    array : numpy.ndarray
        (y, x), or (y, x, samples).
    palette : tuple of int
        Its colours, as 0xRRGGBB; empty if there is none.
    """
    from PIL import Image

    with Image.open(path) as picture:
        samples = picture.getpalette("RGB") if picture.mode == "P" else None
        colours = np.reshape(samples or [], (-1, 3)).astype(int) @ (2**16, 2**8, 1)
        return np.array(picture), tuple(colours.tolist())


def label_images(parts: Any, paths: Any) -> list[Any]:
    """What was read of files that belong together, as labels without an axis of colours.

    Parameters
    ----------
    parts : sequence of Pixels
        One per file; colours, where there are any, along the last axis, "s".
    paths : sequence of path
        Named in notes and errors.

    Returns
    -------
    list of Pixels
        Of integers or bool. Grey pictures keep their values, but for masks with smooth edges, see
        `without_smooth_edges`; of pictures with colours, each colour is one label, the same in all
        files. Where there is one colour only, the opacity counts.

    Raises
    ------
    TypeError
        If a file holds fractions, NaN or infinity.
    ValueError
        If it is a photograph, in colours or grey, or some files hold colours and others numbers.
    """
    parts = [_without_opacity(part, path) for part, path in zip(parts, paths)]
    coloured = [part.axes.endswith("s") for part in parts]
    if any(not _is_grey(part.data) for part, has in zip(parts, coloured) if has):
        _check_alike(parts, paths, coloured)
        table = _table([(p, path) for p, path, has in zip(parts, paths, coloured) if has])
        parts = [_numbered(p, table) if has else p for p, has in zip(parts, coloured)]
    else:
        parts = [_first_colour(p) if has else p for p, has in zip(parts, coloured)]
    parts = [
        replace(part, data=as_labels(part.data, f"The labels in {path}"))
        for part, path in zip(parts, paths)
    ]
    parts = [_without_losses(part, path) for part, path in zip(parts, paths)]
    parts = without_smooth_edges(parts, paths)
    for part, path in zip(parts, paths):
        _check_kept(part, path)
    return parts


def _check_alike(parts, paths, coloured):
    """Refuse numbers beside colours, as nothing tells which number is which colour."""
    for part, path, has in zip(parts, paths, coloured):
        if not has and np.any(part.data):
            other = paths[coloured.index(True)]
            raise ValueError(
                f"{path} holds numbers but {other} colours, so it is not clear which labels "
                "are the same; save both in the same way."
            )


def _without_losses(part, path):
    """A mask of a JPEG file, which changes values a little: 0 and 255, if all are near these."""
    if not _is_lossy(part, path):
        return part
    between = np.count_nonzero((part.data >= 64) & (part.data < 192))
    if part.data.max() < 192 or between > _BETWEEN * np.count_nonzero(part.data >= 192):
        return part
    warnings.warn(
        f"{path} is a JPEG file, which does not keep values exactly: it is read as 0 and 255.",
        stacklevel=4,
    )
    return replace(part, data=np.where(part.data < 128, 0, 255).astype(np.uint8))


def _is_lossy(part, path):
    return Path(path).suffix.lower() in _LOSSY and len(np.unique(part.data)) > 2


def _check_kept(part, path):
    if _is_lossy(part, path):
        raise ValueError(
            f"{path} is a JPEG file, which does not keep values exactly, so that its labels are "
            "not known; save masks as PNG or TIFF."
        )


def with_colours_of(labels: Pixels, others: Pixels | None) -> Pixels:
    """Labels that were colours, numbered as other labels are.

    Parameters
    ----------
    labels, others : Pixels
        From `label_images`; the classes of both should be the same.

    Returns
    -------
    Pixels
        Colours that the others lack get the next numbers; masks of one colour each stay. Numbers
        of a palette count as its colours, if the other labels are of these.

    Raises
    ------
    ValueError
        If only one of them was colours, of more than one class, or there are other labels.
    """
    if others is None or labels.colours == others.colours:
        return labels
    labels, others = _as_shown(labels, others), _as_shown(others, labels)
    if len(labels.colours) == len(others.colours) == 2:  # masks, each of a colour of its own
        return labels
    if not labels.colours or not others.colours:
        if len(labels.colours or others.colours) < 3:
            return labels
        raise ValueError(
            "Some masks hold numbers and others colours, so it is not clear which labels are "
            "the same; save all in the same way."
        )
    more = (k for k in labels.colours[1:] if k not in others.colours and k >= 0)
    table = [*others.colours, *more]
    numbers = [table.index(k) if k in table else 0 for k in labels.colours]
    lookup = np.array(numbers, np.min_scalar_type(len(table) - 1))
    arrays = [np.asarray(array) for array in labels.arrays]
    if any(array.size and not 0 <= array.min() <= array.max() < len(lookup) for array in arrays):
        raise ValueError(f"There are other labels than the {len(lookup)} that were colours.")
    arrays = [lookup[array] for array in arrays]
    data = arrays if isinstance(labels.data, list) else arrays[0]
    warnings.warn(f"Both are numbered in the same way: {_listed(table)}.", stacklevel=2)
    return replace(labels, data=data, colours=tuple(table))


def _as_shown(labels, others):
    """Numbers with the colours of their palette, where the other labels are of these colours."""
    if labels.colours or not labels.palette or len(others.colours) < 3:
        return labels
    used = sorted({int(value) for array in labels.arrays for value in np.unique(array)})
    if used[0] < 0 or used[-1] >= len(labels.palette):
        return labels
    shown = [labels.palette[number] for number in used]
    if len(set(shown)) < len(shown) or not {*shown} & {*others.colours[1:]}:
        return labels
    table = dict(zip(used, shown))  # numbers that are not used get what is no colour
    return replace(labels, colours=tuple(table.get(k, -1 - k) for k in range(used[-1] + 1)))


def _without_opacity(part, path):
    """Colours without their opacity, or the opacity if there is but one colour."""
    if not part.axes.endswith("s"):
        return part
    data = part.data.compute() if is_lazy(part.data) else part.data
    if data.shape[-1] not in (2, 4):
        return replace(part, data=data)
    colours, opacity = data[..., :-1], data[..., -1]
    seen = opacity > 0
    is_one = (colours[seen] == colours[seen][:1]).all()
    if is_one and (opacity != opacity.flat[0]).any():
        warnings.warn(f"{path} has one colour only; its opacity is read as labels.", stacklevel=4)
        return replace(part.without(data.ndim - 1), data=opacity)
    if seen.any():  # what nobody sees is background
        colours = np.where(seen[..., None], colours, 0)
    return replace(part, data=colours)


def _is_grey(data):
    return bool((data == data[..., :1]).all())


def _first_colour(part):
    return replace(part.without(part.data.ndim - 1), data=part.data[..., 0])


def _table(parts):
    """The colours of all pictures, as one number each, with the background first."""
    counts = {}
    for part, path in parts:
        values, numbers = np.unique(_as_numbers(part.data, path), return_counts=True)
        if len(values) > _MOST_COLOURS:
            raise ValueError(
                f"{path} is a picture of {len(values)} colours, not labels: it should hold one "
                f"number per pixel, or at most {_MOST_COLOURS} colours."
            )
        for value, number in zip(values.tolist(), numbers.tolist()):
            counts[value] = counts.get(value, 0) + number
    background = 0 if 0 in counts else max(counts, key=counts.get)
    table = [background, *sorted(counts.keys() - {background})]
    names = f"{parts[0][1]}" + (f" and {len(parts) - 1} more" if len(parts) > 1 else "")
    warnings.warn(f"{names}: each colour is read as one label: {_listed(table)}.", stacklevel=5)
    return np.array(table)


def _listed(table):
    colours = [f"{label} = #{value:06x}" for label, value in enumerate(table) if value >= 0]
    return ", ".join(colours[:8]) + (", ..." if len(colours) > 8 else "")


def _as_numbers(data, path="A picture of colours"):
    if data.dtype.kind not in "bu" or data.dtype.itemsize > 2 or data.shape[-1] != 3:
        raise ValueError(f"{path} should hold one number per pixel, not {data.shape[-1]} samples.")
    bits = 8 * data.dtype.itemsize
    red, green, blue = (data[..., k].astype(np.int64) for k in range(3))
    return red << 2 * bits | green << bits | blue


def _numbered(part, table):
    values = _as_numbers(part.data)
    order = np.argsort(table)
    labels = order[np.searchsorted(table[order], values)]
    data = labels.astype(np.min_scalar_type(len(table) - 1))
    return replace(part.without(part.data.ndim - 1), data=data, colours=tuple(table.tolist()))
