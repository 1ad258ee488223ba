"""The writers behind napari's "Save Selected Layers": OME-Zarr and OME-TIFF, with their scale."""

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from napari_metastructure.files.outputs import with_ending
from napari_metastructure.files.write import write

__all__ = ["write_ome_tiff", "write_ome_zarr"]

_AXES = {2: "yx", 3: "zyx", 4: "tzyx", 5: "tczyx"}


def write_ome_zarr(path: str | os.PathLike, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write a layer as OME-Zarr, with coarser levels.

    Parameters
    ----------
    path : path
        ``.ome.zarr`` is added where there is no such ending.
    data : array or sequence of arrays
        Of an image or labels layer; of a multiscale layer all levels, the finest first.
    meta : dict
        Of the layer, as `Layer.as_layer_data_tuple` gives it.

    Returns
    -------
    list of str
        The path that was written.

    Raises
    ------
    FileExistsError, PermissionError, OSError, ValueError
        With one sentence; nothing is replaced.
    """
    path = Path(path)
    path = path if path.suffix == ".zarr" else with_ending(path, ".ome.zarr")
    return _write(path, data, meta)


def write_ome_tiff(path: str | os.PathLike, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write a layer as OME-TIFF.

    Parameters
    ----------
    path : path
        ``.ome.tif`` is added where there is no such ending.
    data, meta
        As for `write_ome_zarr`.

    Returns
    -------
    list of str
        The path that was written.

    Raises
    ------
    FileExistsError, PermissionError, OSError, ValueError
        With one sentence; nothing is replaced.
    """
    path = Path(path)
    is_named = path.name.lower().endswith(".ome.tiff")
    return _write(path if is_named else with_ending(path, ".ome.tif"), data, meta)


def _write(path: Path, data: Any, meta: dict[str, Any]) -> list[str]:
    data = data[0] if _is_multiscale(data, meta) else data
    data = data if hasattr(data, "dtype") else np.asarray(data)
    ndim = data.ndim - bool(meta.get("rgb"))
    axes = _letters(meta.get("axis_labels"), ndim)
    scale, units = meta.get("scale"), meta.get("units")
    scale = [1.0] * ndim if scale is None else [float(size) for size in scale]
    units = ["pixel"] * ndim if units is None else [str(unit) for unit in units]
    translation = [float(shift) for shift in meta.get("translate", [0.0] * ndim)]
    if meta.get("rgb"):
        data, axes = np.moveaxis(data, -1, 0), "c" + axes
        scale, units, translation = [1.0, *scale], ["pixel", *units], [0.0, *translation]
    _tell_what_is_lost(path, meta, translation)
    place: dict[str, Any] = {"scale": scale, "units": units, "translation": translation}
    write(path, data, axes=axes, smooth="contrast_limits" in meta, **place)  # labels have none
    return [str(path)]


def _is_multiscale(data: Any, meta: dict[str, Any]) -> bool:
    is_one = hasattr(data, "dtype") and hasattr(data, "ndim")
    return bool(meta.get("multiscale")) or (not is_one and hasattr(data[0], "ndim"))


def _letters(labels: Any, ndim: int) -> str:
    """An axis letter each, from the layer's names where these say what they are."""
    if ndim not in _AXES:
        raise ValueError(f"A layer of 2 to 5 axes can be written, not of {ndim}.")
    letters = "".join(str(label)[:1].lower() for label in labels or ())
    is_known = letters.endswith("yx") and len(set(letters)) == ndim and set(letters) <= set("tczyx")
    return letters if is_known else _AXES[ndim]


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
