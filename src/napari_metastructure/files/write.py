"""Arrays as files: OME-TIFF, OME-Zarr, NumPy, or a folder of files."""

import json
import os
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_metastructure.arrays.blocks import is_lazy
from napari_metastructure.files.errors import writing
from napari_metastructure.files.names import TIFF
from napari_metastructure.files.outputs import Output, check_new, image_path
from napari_metastructure.files.pixels import Pixels
from napari_metastructure.files.records import FOLDER_MARK
from napari_metastructure.files.units import symbol

__all__ = ["check_names", "create_zarr", "save", "write", "write_with_labels"]


def write(
    path: str | os.PathLike,
    data: Any,
    *,
    like: Pixels | None = None,
    axes: str | None = None,
    scale: Sequence[float] | None = None,
    units: Sequence[str] | None = None,
    translation: Sequence[float] | None = None,
    smooth: bool | None = None,
    record: dict[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Write an array, or a list of arrays, in the format that the name asks for.

    Parameters
    ----------
    path : path or str
        ``.tif`` or ``.ome.tif``: OME-TIFF; ``.zarr``: OME-Zarr;
        ``.npy``: NumPy; no ending: a folder of one OME-TIFF per plane, named as the planes are,
        with the maps of all classes, if there are any.
    data : array or sequence of arrays
        Dask arrays are written part by part. A list becomes a folder.
    like : Pixels, optional
        What the result belongs to: its axes, scale, units and names are taken over. Axes that
        `data` has in front, such as that of the classes, count as channels.
    axes, scale, units : optional
        Per axis, in place of those of `like`; without both, the last axes are y and x. Channels
        or colours that are the last axis, "yxc", are written before the plane.
    translation : sequence of float, optional
        Place of the first pixel, per axis; kept by OME-Zarr only.
    smooth : bool, optional
        As for `ome_zarr.create_image`.
    record : dict, optional
        How the pixels came about; an OME-Zarr image keeps it.
    overwrite : bool
        Replace what is there; otherwise that is an error.

    Raises
    ------
    FileExistsError, PermissionError, OSError, ValueError
        With one sentence. Nothing half written is left under the name.
    """
    path = image_path(path)
    if isinstance(data, (list, tuple)) and path.suffix:
        raise ValueError(
            f"{len(data)} arrays cannot be written to one file; give {path.name} no ending, to be "
            "a folder of files."
        )
    output = Output(path, overwrite=overwrite)
    try:
        place: dict[str, Any] = {
            "axes": axes,
            "scale": scale,
            "units": units,
            "translation": translation,
        }
        save(output.draft, data, like=like, **place, smooth=smooth, record=record)
        output.settle()
        output.commit()
    finally:
        output.discard()


def write_with_labels(
    path: str | os.PathLike,
    data: Any,
    labels: Mapping[str, tuple[Any, dict[str, Any]]],
    **place: Any,
) -> None:
    """Write an OME-Zarr image with its labels in it, as the format has them.

    Parameters
    ----------
    path : path or str
        Ending in ``.zarr``.
    data : array
    labels : dict of {str: (array, dict)}
        By name: labels, and their axes, scale, units and translation, as for `write`.
    **place
        The same of the image, and smooth.

    Raises
    ------
    FileExistsError, PermissionError, OSError, ValueError
        With one sentence. Nothing half written is left under the name.
    """
    from napari_metastructure.files.ome_zarr import add_labels, mark_as_labels

    output = Output(image_path(path), overwrite=False)
    try:
        save(output.draft, data, **place)
        for inner, (array, where) in zip(add_labels(output.draft, list(labels)), labels.values()):
            _write_zarr(inner, array, **where).finish()
            mark_as_labels(inner)
        output.settle()
        output.commit()
    finally:
        output.discard()


def save(
    path: Path,
    data: Any,
    *,
    like: Pixels | None = None,
    axes: str | None = None,
    scale: Sequence[float] | None = None,
    units: Sequence[str] | None = None,
    translation: Sequence[float] | None = None,
    smooth: bool | None = None,
    record: dict[str, Any] | None = None,
    complete: bool = True,
) -> None:
    """`write` to a path at which there is nothing, such as `outputs.Output.draft`.

    Parameters
    ----------
    path, data, like, axes, scale, units, translation, smooth, record
        As for `write`.
    complete : bool
        False marks an OME-Zarr image or a folder as partial.
    """
    if isinstance(data, (list, tuple)):
        with writing(path):
            _write_folder(path, data, like, complete)
        return
    axes, scale, units = _described(data, like, axes, scale, units)
    translation = _translation(path, data, like) if translation is None else translation
    if not path.suffix:
        extra = data.ndim - len(like.axes) if like else 0
        if 0 < extra < data.ndim - 2:  # maps of each class: a file is an image, not a class
            order = [extra, *range(extra), *range(extra + 1, data.ndim)]
            data = data.transpose(order)
            axes, scale, units = (_in_order(each, order) for each in (axes, scale, units))
        like = Pixels(data, axes, tuple(scale), tuple(units), like.names if like else ())
        with writing(path):
            _write_folder(path, data, like, complete)
        return
    if axes.endswith("c") and path.suffix != ".npy":  # formats want the pixels of a plane last
        *leading, row, column, channel = range(data.ndim)
        order = [*leading, channel, row, column]
        data = data.transpose(order)
        axes, scale, units, translation = (
            _in_order(each, order) for each in (axes, scale, units, translation)
        )
    with writing(path):
        if path.suffix == ".zarr":
            image = _write_zarr(path, data, axes, scale, units, translation, smooth)
            (image.finish if complete else image.note)(record)
        elif path.suffix.lower() in TIFF:
            _write_tiff(path, data, axes, scale, units)
        else:
            _write_npy(path, data)


def create_zarr(
    path: str | Path, shape: Sequence[int], dtype: Any, *, like: Any = None, overwrite: bool = False
) -> Any:
    """A new OME-Zarr image, to be filled block by block and then finished.

    Parameters
    ----------
    path : path or str
        Absolute, if other processes are to write to it.
    shape : sequence of int
    dtype : dtype
    like : Pixels, optional
        As for `write`.
    overwrite : bool

    Returns
    -------
    ome_zarr.ZarrImage
        Of this shape, also where the format stores the axes in another order.
    """
    from napari_metastructure.files.ome_zarr import create_image
    from napari_metastructure.files.reordered import Reordered

    path = check_new(path, overwrite=overwrite)
    empty = np.broadcast_to(np.zeros((), dtype), shape)
    axes, scale, units = _described(empty, like, None, None, None)
    order = _zarr_order(axes)
    place = {"axes": axes, "scale": scale, "units": units}
    place["translation"] = _translation(Path(path), empty, like)
    place = {name: _in_order(each, order) for name, each in place.items()}
    image = create_image(path, _in_order(shape, order), dtype, **place, overwrite=overwrite)
    if order == sorted(order):
        return image
    return Reordered(**vars(image), order=tuple(np.argsort(order).tolist()))


def _described(data, like, axes, scale, units) -> tuple[str, Any, Any]:
    """Axes, scale and units of `data`, as far as they are known."""
    if data.ndim < 2 or 0 in data.shape:
        raise ValueError(f"An array of shape {tuple(data.shape)} is no image.")
    known = len(like.axes) if like else 0
    extra = data.ndim - known if like else 0
    if axes is None:
        if not like and data.ndim > 2 and data.shape[-1] in (3, 4) and min(data.shape[-3:-1]) > 8:
            warnings.warn(
                f"An array of shape {data.shape} is written as planes of {data.shape[-2]} x "
                f"{data.shape[-1]} pixels; if these are colours, give axes='yxc'.",
                stacklevel=4,
            )
        axes = "c" * extra + like.axes if like else "i" * (data.ndim - 2) + "yx"
    if scale is None:
        scale = (1.0,) * extra + like.scale if like else (1.0,) * data.ndim
    if units is None:
        units = ("pixel",) * extra + like.units if like else ("pixel",) * data.ndim
    for name, values in {"axes": axes, "scale": scale, "units": units}.items():
        if len(values) < data.ndim or (like is None and len(values) > data.ndim):
            raise ValueError(
                f"An array of shape {tuple(data.shape)} has {data.ndim} axes, but "
                f"{name}={values!r} gives {len(values)}."
            )
    return _known_axes(axes[-data.ndim :]), scale[-data.ndim :], units[-data.ndim :]


def _translation(path, data, like):
    """The place of the first pixel as in `like`, which OME-Zarr alone holds; None if it is 0."""
    if like is None or not like.translation:
        return None
    if path.suffix != ".zarr":
        if path.suffix != ".npy":
            warnings.warn(f"{path.name} does not hold the image's translation.", stacklevel=4)
        return None
    return ((0.0,) * (data.ndim - len(like.axes)) + tuple(like.translation))[-data.ndim :]


def _in_order(each, order):
    """A value for each axis (letters: a text) with the axes in another order; none stay none."""
    if each is None or not len(each):
        return each
    moved = [each[axis] for axis in order]
    return "".join(moved) if isinstance(each, str) else moved


def _known_axes(axes):
    """Letters that OME knows, each once: what a file did not name becomes t, z or c.

    Images one after the other become times, since planes along z would be one volume, in which
    objects of different images touch.
    """
    free = [letter for letter in "tzc" if letter not in axes]
    taken, named = set(), []
    for letter in axes:
        if letter not in "tczyx" or letter in taken:
            letter = free.pop(0) if free else letter
        taken.add(letter)
        named.append(letter)
    return "".join(named)


def _write_tiff(path, data, axes, scale, units):
    import tifffile

    if data.ndim > 5:
        raise ValueError(f"A TIFF holds 2 to 5 axes, not {data.ndim}; write .npy.")
    data = _compact(data)
    metadata = {"axes": axes.upper()}
    for axis, size, unit in zip(axes, scale, units):
        if unit and str(unit) != "pixel":
            if axis in "zyx":
                metadata[f"PhysicalSize{axis.upper()}"] = float(size)
                metadata[f"PhysicalSize{axis.upper()}Unit"] = symbol(unit)
            elif axis == "t":
                metadata["TimeIncrement"] = float(size)
                metadata["TimeIncrementUnit"] = symbol(unit)
    options = {"ome": True, "metadata": metadata, "compression": "zlib"}
    options["bigtiff"] = data.nbytes > 2**32 - 2**25
    options["photometric"] = "minisblack"
    if is_lazy(data):
        planes = (np.asarray(data[i]) for i in np.ndindex(data.shape[:-2]))
        tifffile.imwrite(path, planes, shape=data.shape, dtype=data.dtype, **options)
    else:
        tifffile.imwrite(path, np.ascontiguousarray(data), **options)


def _compact(data):
    """OME-TIFF has neither bool nor 64-bit integers nor halves: what holds the values instead."""
    if data.dtype.kind == "c":
        raise ValueError("A TIFF cannot hold complex numbers; write .ome.zarr or .npy.")
    if data.dtype == bool:
        return data.astype(np.uint8)
    if data.dtype == np.float16:
        return data.astype(np.float32)
    if data.dtype.kind == "f" or data.dtype.itemsize < 8:
        return data
    low, high = int(data.min()), int(data.max())
    kind = np.result_type(np.min_scalar_type(low), np.min_scalar_type(high))
    if kind.itemsize == 8:
        largest = max(low, high, key=abs)
        raise ValueError(f"A TIFF cannot hold a label of {largest}; write .ome.zarr or .npy.")
    return data.astype(kind)


def _write_npy(path, data):
    """Plane by plane, so that lazy data is never whole in memory, and a full disk is told."""
    header = {
        "descr": np.lib.format.dtype_to_descr(data.dtype),
        "fortran_order": False,
        "shape": tuple(data.shape),
    }
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for index in np.ndindex(data.shape[:-2]):
            file.write(np.ascontiguousarray(np.asarray(data[index], data.dtype)).tobytes())


def _zarr_order(axes):
    """The axes of an image as OME-Zarr wants them: time, channels, space."""
    return sorted(range(len(axes)), key=lambda i: "tczyx".find(axes[i]))


def _write_zarr(path, data, axes, scale, units, translation, smooth=False):
    from napari_metastructure.files.ome_zarr import create_image

    order = _zarr_order(axes)
    if order != sorted(order):
        data = data.transpose(order)
    dtype = np.uint8 if data.dtype == bool else data.dtype
    place = {"axes": axes, "scale": scale, "units": units, "translation": translation}
    place = {name: _in_order(each, order) for name, each in place.items()}
    image = create_image(path, data.shape, dtype, **place, smooth=smooth)
    for index in np.ndindex(data.shape[:-2]):
        image[index] = np.asarray(data[index])
    return image


def _write_folder(path, data, like, complete):
    """One OME-TIFF per plane of a stack, or per array of a list; the mark tells what there is."""
    is_stack = not isinstance(data, (list, tuple)) and data.ndim > 2
    arrays = list(data) if is_stack or isinstance(data, (list, tuple)) else [data]
    known = like.names if like else ()
    names = list(known[: len(arrays)]) if len(known) >= len(arrays) else []
    names = names or [f"{number:04d}" for number in range(len(arrays))]
    check_names(names)
    path.mkdir()
    files = [f"{name}.tif" for name in names]
    mark = path / FOLDER_MARK
    mark.write_text(json.dumps({"complete": False, "names": files}), encoding="utf-8")
    part = None
    if like:
        drop = int(is_stack)
        part = replace(
            like, axes=like.axes[drop:], scale=like.scale[drop:], units=like.units[drop:]
        )
    for name, array in zip(files, arrays):
        save(path / name, array, like=part)
    if complete:
        mark.write_text(json.dumps({"complete": True, "names": files}), encoding="utf-8")


def check_names(names: Sequence[str]) -> None:
    """Refuse files of one name in a folder, also where the file system ignores case.

    Raises
    ------
    ValueError
    """
    counts = Counter(name.lower() for name in names)
    twice = [name for name in names if counts[name.lower()] > 1]
    if twice:
        raise ValueError(
            f"{len(twice)} results would have the name {twice[0]}. Write one file (.ome.tif, "
            ".ome.zarr) instead of a folder, or give the images different names."
        )
