"""The writers behind napari's "Save Selected Layers": OME-Zarr and OME-TIFF, with their scale."""

import functools
import os
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_metastructure.files.outputs import Output, with_ending
from napari_metastructure.files.write import save, write, write_with_labels
from napari_metastructure.plugin.layers import RECORD, axis_letters, names_of_volumes

__all__ = ["write_ome_tiff", "write_ome_zarr"]

_ENDINGS = re.compile(r"(\.ome)?\.(zarr|tiff?)$", re.IGNORECASE)


def _told(write: Callable[..., list[str]]) -> Callable[..., list[str]]:
    """A writer whose sentences are shown: napari takes ValueError for want of a writer."""

    @functools.wraps(write)
    def told(path: str | os.PathLike, layers: Sequence[tuple]) -> list[str]:
        try:
            return write(path, layers)
        except FileExistsError as error:  # there is no such option in a window
            raise FileExistsError(str(error).replace(", or --overwrite it", "")) from error
        except ValueError as error:
            raise RuntimeError(str(error)) from error

    return told


@_told
def write_ome_zarr(path: str | os.PathLike, layers: Sequence[tuple]) -> list[str]:
    """Write layers as OME-Zarr, with coarser levels.

    Parameters
    ----------
    path : path
        ``.ome.zarr`` is added where there is no such ending, nor one of TIFF; that is written then.
    layers : sequence of (data, meta, kind)
        Image and labels layers, as `Layer.as_layer_data_tuple` gives them; the data of multiscale
        layers are all levels, the finest first. One image, and labels of its shape, become one
        OME-Zarr image with labels in it. Other layers become a folder, named as the path
        without its ending, with an OME-Zarr image for each, named as the layers are.

    Returns
    -------
    list of str
        The paths that were written.

    Raises
    ------
    FileExistsError, PermissionError, OSError, RuntimeError
        With one sentence; nothing is replaced.
    """
    return _write_layers(Path(path), layers, ".ome.zarr")


@_told
def write_ome_tiff(path: str | os.PathLike, layers: Sequence[tuple]) -> list[str]:
    """Write layers as OME-TIFF.

    Parameters
    ----------
    path : path
        ``.ome.tif`` is added where there is no such ending, nor one of Zarr; that is written then.
    layers : sequence of (data, meta, kind)
        As for `write_ome_zarr`. Several become a folder, named as the path without its ending,
        with a file for each, named as the layers are.

    Returns
    -------
    list of str
        The paths that were written.

    Raises
    ------
    FileExistsError, PermissionError, OSError, RuntimeError
        With one sentence; nothing is replaced.
    """
    return _write_layers(Path(path), layers, ".ome.tif")


def _write_layers(path: Path, layers: Sequence[tuple], ending: str) -> list[str]:
    """Write in the format of the path's ending, where it has one that we write.

    The dialog hands a path over to the writer that is chosen below it, whatever the path's ending.
    """
    layers = _named(layers)
    own = _ENDINGS.search(path.name)
    path = path if own else with_ending(path, ending)
    ending = ".ome.zarr" if path.suffix == ".zarr" else ".ome.tif"
    if len(layers) == 1:
        return _write(path, *layers[0])
    images = [layer for layer in layers if layer[2] == "image"]
    if ending == ".ome.zarr" and len(images) == 1 and _all_fit(layers):
        return _write_together(path, images[0], [layer for layer in layers if layer[2] != "image"])
    return _write_folder(path, ending, layers)


def _named(layers: Sequence[tuple]) -> list[tuple]:
    """The layers, with z for an axis of images if one of them was computed on volumes along it."""
    if not any(_is_of_volumes(meta) for _, meta, _ in layers):
        return list(layers)
    return [
        (data, {**meta, "axis_labels": names_of_volumes(meta.get("axis_labels") or ())}, kind)
        for data, meta, kind in layers
    ]


def _is_of_volumes(meta: dict[str, Any]) -> bool:
    """Whether the record of a layer tells that it was computed in 3-D."""
    record = (meta.get("metadata") or {}).get(RECORD) or {}
    parameters = [value for value in record.values() if isinstance(value, dict)]
    return any(values.get("spatial_dims") == 3 for values in parameters)


def _write(path: Path, data: Any, meta: dict[str, Any], kind: str) -> list[str]:
    data, place = _placed(path, data, meta)
    write(path, data, smooth=kind == "image", **place)
    return [str(path)]


def _write_together(path: Path, image: tuple, labels: Sequence[tuple]) -> list[str]:
    """An image with its labels in it."""
    names = _names(labels)
    data, place = _placed(path, *image[:2])
    parts = [_placed(path, *layer[:2]) for layer in labels]
    write_with_labels(path, data, dict(zip(names, parts)), smooth=True, **place)
    return [str(path)]


def _write_folder(path: Path, ending: str, layers: Sequence[tuple]) -> list[str]:
    """A file for each layer, named as it is, in a folder that takes its name when it is whole."""
    files = [f"{name}{ending}" for name in _names(layers)]
    placed = [_placed(path, *layer[:2]) for layer in layers]
    output = Output(path.with_name(_ENDINGS.sub("", path.name)))
    try:
        output.draft.mkdir()
        for file, (data, place), layer in zip(files, placed, layers):
            save(output.draft / file, data, smooth=layer[2] == "image", **place)
        output.settle()
        output.commit()
    finally:
        output.discard()
    return [str(output.path / file) for file in files]


def _names(layers: Sequence[tuple]) -> list[str]:
    """The names of layers, as files can have them."""
    names = [re.sub(r'[<>:"/\\|?*\x00-\x1f]', "_", str(meta.get("name"))) for _, meta, _ in layers]
    names = [name.strip(". ") or "layer" for name in names]
    twice = [name for name in names if sum(name.lower() == other.lower() for other in names) > 1]
    if twice:
        raise ValueError(
            f"Files of {len(twice)} layers would be named {twice[0]}; rename the layers."
        )
    return names


def _all_fit(layers: Sequence[tuple]) -> bool:
    """Whether labels have the axes of the image but for its channels, along which they may lie."""
    shapes = {kind: set() for kind in ("image", "labels")}
    for data, meta, kind in layers:
        data, place = _placed(Path(), data, meta, tell=False)
        sides = zip(place["axes"], data.shape, place["scale"], place["translation"])
        shapes[kind].add(tuple(side for side in sides if side[0] != "c"))
    return shapes["labels"] == shapes["image"]


def _placed(path: Path, data: Any, meta: dict[str, Any], tell: bool = True) -> tuple[Any, dict]:
    """The pixels of a layer, the finest of its levels, and where they lie."""
    data = data[0] if _is_multiscale(data, meta) else data
    data = data if hasattr(data, "dtype") else np.asarray(data)
    ndim = data.ndim - bool(meta.get("rgb"))
    axes = axis_letters(meta.get("axis_labels"), ndim)
    scale, units = meta.get("scale"), meta.get("units")
    scale = [1.0] * ndim if scale is None else [float(size) for size in scale]
    units = ["pixel"] * ndim if units is None else [str(unit) for unit in units]
    units = ["pixel" if axis == "c" else unit for axis, unit in zip(axes, units)]
    translation = [float(shift) for shift in meta.get("translate", [0.0] * ndim)]
    if meta.get("rgb"):
        data, axes = np.moveaxis(data, -1, 0), "c" + axes
        scale, units, translation = [1.0, *scale], ["pixel", *units], [0.0, *translation]
    if tell:
        _tell_what_is_lost(path, meta, translation)
    return data, {"axes": axes, "scale": scale, "units": units, "translation": translation}


def _is_multiscale(data: Any, meta: dict[str, Any]) -> bool:
    is_one = hasattr(data, "dtype") and hasattr(data, "ndim")
    return bool(meta.get("multiscale")) or (not is_one and hasattr(data[0], "ndim"))


def _tell_what_is_lost(path: Path, meta: dict[str, Any], translation: list[float]) -> None:
    """A note on how the layer lies that the format cannot hold."""
    lost = []
    if path.suffix != ".zarr" and any(translation):
        lost.append("translation")
    for name, word in (("rotate", "rotation"), ("shear", "shear"), ("affine", "affine transform")):
        matrix = np.asarray(meta.get(name, ()), dtype=float)
        neutral = np.eye(len(matrix)) if matrix.ndim == 2 else np.zeros(matrix.shape)
        if not np.allclose(matrix, neutral):
            lost.append(word)
    if lost:
        warnings.warn(
            f"{path.name} does not hold the layer's {' and '.join(lost)}.",
            stacklevel=4,
        )
