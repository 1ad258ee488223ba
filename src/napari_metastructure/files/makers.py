"""Formats of microscopes' makers (CZI, LIF, ND2 ...), read through bioio and its readers."""

import warnings
from pathlib import Path
from typing import Any

from napari_metastructure.files.errors import Unreadable
from napari_metastructure.files.pixels import Pixels

__all__ = ["read_of_maker"]

_MICROMETRES = "zyx"  # the axes whose pixel size bioio knows, in micrometres


def read_of_maker(path: Path) -> Pixels:
    """Read the first image of a microscope's own file, as a dask array.

    Parameters
    ----------
    path : Path

    Returns
    -------
    Pixels
        Axes of one plane are left out; the scale is in micrometres where the file says it.

    Raises
    ------
    Unreadable
        If bioio or its reader of this format is not installed.

    Warns
    -----
    UserWarning
        If the file holds further images.
    """
    try:
        from bioio import BioImage
    except ImportError:
        raise Unreadable(
            "it is a microscope's own format: install its reader with pip install "
            "'napari-metastructure[bioio]', or save it as OME-TIFF, in Fiji say"
        ) from None
    try:
        image = BioImage(path)
    except Exception as error:
        if type(error).__name__ != "UnsupportedFileFormatError":
            raise
        name = path.suffix[1:].lower()
        raise Unreadable(
            f"bioio has no reader of {path.suffix} yet: install bioio-{name}, if there is one, or "
            "bioio-bioformats"
        ) from None
    _tell_of_others(path, image)
    return _pixels(image)


def _tell_of_others(path: Path, image: Any) -> None:
    if len(image.scenes) > 1:
        warnings.warn(
            f"{path} holds {len(image.scenes)} images; the first, {image.scenes[0]}, is read.",
            stacklevel=5,
        )


def _pixels(image: Any) -> Pixels:
    data, axes = image.dask_data, image.dims.order.lower()
    kept = [k for k, (n, letter) in enumerate(zip(data.shape, axes)) if n > 1 or letter in "yx"]
    index = tuple(slice(None) if k in kept else 0 for k in range(data.ndim))
    axes = "".join(axes[k] for k in kept)
    sizes = {letter: getattr(image.physical_pixel_sizes, letter.upper()) for letter in _MICROMETRES}
    known = [sizes.get(letter) for letter in axes]
    scale = tuple(float(size or 1) for size in known)
    units = tuple("micrometer" if size else "pixel" for size in known)
    return Pixels(data[index], axes, scale, units)
