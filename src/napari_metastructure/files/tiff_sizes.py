"""Pixel sizes and units, as the OME and ImageJ descriptions of a TIFF file tell them."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from napari_metastructure.files.units import full_name

__all__ = ["pixel_size"]

# ImageJ takes the dots per inch of a PNG or JPEG, which are those of a print, for a pixel size.
_NO_SIZES = ("pixel", "inch")


def pixel_size(file: Any, axes: Any, path: str | Path | None = None) -> Any:
    """Scale and units per axis.

    Parameters
    ----------
    file : tifffile.TiffFile
    axes : str
        One small letter per axis.
    path : path, optional
        Named in a note on units that nobody knows.

    Returns
    -------
    scale : tuple of float
    units : tuple of str
        "pixel" where nothing is known.
    """
    sizes = {}
    if file.is_ome:
        sizes = _of_ome(file)
    elif file.is_imagej:
        sizes = _of_imagej(file)
    known = {axis: (size, full_name(unit, path)) for axis, (size, unit) in sizes.items()}
    found = [known.get(axis, (1.0, "pixel")) for axis in axes]
    return tuple(size for size, _ in found), tuple(unit for _, unit in found)


def _of_ome(file):
    root = ElementTree.fromstring(file.ome_metadata)
    pixels = next((item for item in root.iter() if item.tag.endswith("Pixels")), {})
    names = {axis.lower(): f"PhysicalSize{axis}" for axis in "XYZ"} | {"t": "TimeIncrement"}
    usual = {"t": "s"}
    return {
        axis: (size, pixels.get(f"{name}Unit", usual.get(axis, "µm")))
        for axis, name in names.items()
        if (size := _positive(pixels.get(name)))
    }


def _of_imagej(file):
    known = file.imagej_metadata or {}
    unit = known.get("unit", "")
    of_axis = {axis: known.get(f"{axis}unit", unit) for axis in "xyz"}
    sizes = {}
    for axis, name in (("x", "XResolution"), ("y", "YResolution")):
        tag = file.pages.first.tags.get(name)
        per_unit, whole = tag.value if tag is not None else (0, 1)
        sizes[axis] = _positive(whole / per_unit) if per_unit else None
    sizes["z"] = _positive(known.get("spacing"))
    found = {
        axis: (size, of_axis[axis])
        for axis, size in sizes.items()
        if size and full_name(of_axis[axis], warn=False) not in _NO_SIZES
    }
    if interval := _positive(known.get("finterval")):
        found["t"] = interval, known.get("tunit", "s")
    return found


def _positive(value):
    """A size as float; None if it is not there or makes no sense."""
    try:
        size = abs(float(value))
    except (TypeError, ValueError):
        return None
    return size if 0 < size < float("inf") else None
