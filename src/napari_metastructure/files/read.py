"""Files and folders as arrays: TIFF, OME-TIFF, OME-Zarr, PNG, NumPy.

A file is one array; a folder, a glob or a list of files is one stack where the shapes agree, else
a list. What is larger than `pixels.LAZY` is opened as a dask array and not read before it is used.
"""

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from napari_metastructure.arrays.axes import without_channels
from napari_metastructure.arrays.blocks import is_lazy
from napari_metastructure.files import pixels as limits
from napari_metastructure.files.errors import reading
from napari_metastructure.files.names import TIFF, is_zarr, pair_of, paths_of, stem
from napari_metastructure.files.pixels import Pixels, in_planes, plain
from napari_metastructure.files.tiff import grey, read_tiff

__all__ = ["read", "read_pair"]


def read(source, *, missing="error"):
    """Read an image, a stack or a list of images.

    Parameters
    ----------
    source : path, str or sequence of these
        A file (TIFF, OME-TIFF, PNG, JPEG, ``.npy``), an OME-Zarr or Zarr folder, a folder of files,
        a glob such as ``"cells/*.tif"``, or a list of files. Files of one shape become one stack,
        in natural order (2 before 10).
    missing : {"error", "warn", "fill"}
        If chunks of a Zarr image are not there, see `ome_zarr.open_image`.

    Returns
    -------
    Pixels

    Raises
    ------
    FileNotFoundError
        If there is nothing of that name.
    ValueError
        If a folder holds no image, or a file cannot be read; the sentence names it.
    """
    paths = paths_of(source)
    if len(paths) == 1:
        is_one = isinstance(source, (str, os.PathLike)) and Path(source) == paths[0]
        one = _read_one(paths[0], missing=missing)
        return one if is_one else _stack([paths[0]], [one])
    return _stack(paths, [_read_one(path, len(paths), missing) for path in paths])


def read_pair(source, labels=None, *, channel_axis=None):
    """Read images and the labels that belong to them.

    Parameters
    ----------
    source : path, str or sequence of these
        Images as for `read`; or, without `labels`, a folder that holds ``images/`` and ``masks/``
        (or ``labels/``) with the same file names in both.
    labels : path, str or sequence of these, optional
    channel_axis : int, optional
        Axis of the images that the labels lack; by default that of the channels, if the files
        name it.

    Returns
    -------
    images, labels : Pixels

    Raises
    ------
    FileNotFoundError, ValueError
        As for `read`, and if numbers, names or shapes do not match; the sentence says which.
    """
    source, labels = pair_of(source, labels)
    images, labels = read(source), read(labels, missing="fill")
    _check_match(images, labels, channel_axis)
    return images, labels


def _check_match(images, labels, channel_axis):
    ours, theirs = images.arrays, labels.arrays
    if len(ours) != len(theirs):
        raise ValueError(
            f"There {_are(len(ours), 'image')} but {_are(len(theirs), 'label array', verb=False)}; "
            "give one for each."
        )
    axis = images.channel_axis if channel_axis is None else channel_axis
    for number, (image, label) in enumerate(zip(ours, theirs)):
        shape = without_channels(image.shape, axis if label.ndim == image.ndim - 1 else None)
        if shape != label.shape:
            name = images.names[number] if len(ours) > 1 and images.names else "the images"
            raise ValueError(
                f"The labels of {name} have the shape {label.shape}, but the images {image.shape}; "
                "they should be the same."
            )


def _are(count, noun, verb=True):
    text = f"{count} {noun}{'' if count == 1 else 's'}"
    return (("is " if count == 1 else "are ") if verb else "") + text


def _read_one(path, count=1, missing="error"):
    """One file as `Pixels`; one of `count` of about the same size."""
    if is_zarr(path):
        return _read_zarr(path, missing)
    with reading(path):
        if path.suffix.lower() in TIFF:
            return read_tiff(path, count)
        if path.suffix.lower() == ".npy":
            data = np.load(path, mmap_mode="r", allow_pickle=False)
            data = in_planes(data) if data.nbytes * count > limits.LAZY else np.array(data)
            return plain(data, "i" * (data.ndim - 2) + "yx")
        from skimage.io import imread

        data = imread(path)
        return grey(plain(data, "yx" + "s" * (data.ndim - 2)), path)


def _read_zarr(path, missing):
    from napari_metastructure.files.ome_zarr import open_image

    image = open_image(path, missing=missing)
    units = tuple(unit or "pixel" for unit in image.units)
    axes = image.axes.replace("?", "i")
    record = dict(image.record)
    return Pixels(
        image.lazy, axes, tuple(image.scale), units, complete=image.complete, record=record
    )


def _stack(paths, parts):
    """Files as one stack if they have one shape and kind, else as a list."""
    names = tuple(stem(path) for path in paths)
    first = parts[0]
    shapes = {part.data.shape for part in parts}
    complete = all(part.complete for part in parts)
    if len(shapes) > 1 or len({part.axes for part in parts}) > 1:
        data = [part.data for part in parts]
        return replace(first, data=data, names=names, complete=complete, record={})
    dtypes = Counter(part.data.dtype for part in parts)
    dtype = np.result_type(*dtypes)
    arrays = [part.data.astype(dtype, copy=False) for part in parts]
    if any(map(is_lazy, arrays)) or sum(array.nbytes for array in arrays) > limits.LAZY:
        import dask.array as da

        data = da.stack([da.asarray(array) for array in arrays])
    else:
        data = np.stack(arrays)
    return Pixels(
        data, "i" + first.axes, (1.0, *first.scale), ("pixel", *first.units), names, complete
    )
