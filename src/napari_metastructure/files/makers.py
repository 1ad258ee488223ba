"""Formats of microscopes' makers (CZI, LIF, ND2 ...), read through bioio and its readers."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from napari_metastructure.files import pixels as limits
from napari_metastructure.files.errors import Unreadable
from napari_metastructure.files.pixels import Pixels

__all__ = ["read_of_maker"]

_MICROMETRES = "zyx"  # the axes whose pixel size bioio knows, in micrometres


def read_of_maker(path: Path, count: int = 1) -> Pixels:
    """Read the first image of a microscope's own file.

    Parameters
    ----------
    path : Path
        One of `count` files of about the same size.
    count : int

    Returns
    -------
    Pixels
        A dask array if the files are larger than `pixels.LAZY` and hold no colours. Axes of one
        plane are left out; the scale is in micrometres where the file says it.

    Raises
    ------
    Unreadable
        If bioio or its reader of this format is not installed, or it does not take the file.

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
    with _silent("bioio"):
        try:
            image = BioImage(path)
        except Exception as error:
            if type(error).__name__ != "UnsupportedFileFormatError":
                raise
            raise Unreadable(_why_not(path.suffix)) from None
    _tell_of_others(path, image)
    return _pixels(image, count)


@contextmanager
def _silent(name: str) -> Iterator[None]:
    """Without what a library logs, which is said in our sentence."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


def _why_not(suffix: str) -> str:
    """Why bioio does not take a file: for want of a reader, or because of the file."""
    name = suffix[1:].lower()
    if find_spec(f"bioio_{name}") is not None:
        return f"it is damaged, cut short or no {name.upper()} file"
    return (
        f"bioio has no reader of {suffix} yet: install bioio-{name}, if there is one, or "
        "bioio-bioformats"
    )


def _tell_of_others(path: Path, image: Any) -> None:
    if len(image.scenes) > 1:
        warnings.warn(
            f"{path} holds {len(image.scenes)} images; the first, {image.scenes[0]}, is read.",
            stacklevel=5,
        )


def _pixels(image: Any, count: int) -> Pixels:
    axes = image.dims.order.lower()
    # read lazily, bioio-czi 3.0 gives the first of the colours for all
    data = image.data if axes.endswith("s") else image.dask_data
    kept = [k for k, (n, letter) in enumerate(zip(data.shape, axes)) if n > 1 or letter in "yxs"]
    data = data[tuple(slice(None) if k in kept else 0 for k in range(data.ndim))]
    if data.nbytes * count <= limits.LAZY:  # what is cut short is told now
        data = np.asarray(data)
    axes = "".join(axes[k] for k in kept)
    sizes = {letter: getattr(image.physical_pixel_sizes, letter.upper()) for letter in _MICROMETRES}
    known = [sizes.get(letter) for letter in axes]
    scale = tuple(float(size or 1) for size in known)
    units = tuple("micrometer" if size else "pixel" for size in known)
    return Pixels(data, axes, scale, units)
