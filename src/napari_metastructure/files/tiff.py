"""TIFF files: pixels, axes and pixel sizes as OME, ImageJ and plain TIFF tell them.

Read is the first image (series) of a file as tifffile understands it: planes in the order that the
metadata gives them, of several files where they belong together, and the finest level of a pyramid.
"""

import os
import struct
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from napari_metastructure.files import pixels as limits
from napari_metastructure.files.errors import Unreadable, reading
from napari_metastructure.files.pixels import Pixels
from napari_metastructure.files.tiff_sizes import pixel_size

__all__ = ["read_tiff"]

_MOST_PLANES = 2**24
_TILES = 1024  # pixels along y and x that a block of a tiled image has, about


def read_tiff(path: str | Path, count: int = 1, labels: bool = False) -> Any:
    """The first image of a TIFF file.

    Parameters
    ----------
    path : path
    count : int, optional
        How many files of about that size are to be held at once; large ones become dask arrays.

    Returns
    -------
    pixels : Pixels
    files : tuple of str
        Absolute paths of the files that hold its planes; one, unless an OME-TIFF names others.

    Raises
    ------
    ValueError
        If the file is damaged, or planes that its metadata promises are not there.
    """
    import tifffile

    pages = _count_pages(path)
    with tifffile.TiffFile(path) as file:
        promised = _promised(file, pages)
        number, series = _main_series(file, path)
        _check_whole(file, series, promised)
        _note_unlisted(series, path)
        axes = series.axes.lower().replace("q", "i")
        if (labels or series.dtype.kind != "u") and not axes.endswith("s"):
            axes = axes.replace("s", "i")  # planes of a stack: tifffile took three for colours
        scale, units = pixel_size(file, axes, path)
        names = {page.parent.filehandle.path for page in series.pages if page is not None}
        if series.nbytes * count > limits.LAZY:
            data = _lazy(path, number, series)
        else:
            data = series.asarray()
    if "s" in axes and not axes.endswith("s"):  # colours plane by plane
        at = axes.index("s")
        data = np.moveaxis(data, at, -1)
        axes = axes[:at] + axes[at + 1 :] + "s"
        scale, units = ((*values[:at], *values[at + 1 :], values[at]) for values in (scale, units))
    return Pixels(data, axes, tuple(scale), tuple(units)), tuple(map(os.path.abspath, names))


# ------------------------------------------------------------------------- the image in the file


def _main_series(file, path):
    """Number and series of the first image that is no thumbnail; others are told of."""
    whole = [
        (number, series)
        for number, series in enumerate(file.series)
        if not getattr(series.keyframe, "is_reduced", False)
    ]
    if not whole and not file.series:
        raise Unreadable("it holds no image")
    whole = whole or [(0, file.series[0])]
    if len(whole) > 1:
        warnings.warn(
            f"{path} holds {len(whole)} images; the first one is read, of shape "
            f"{' x '.join(map(str, whole[0][1].shape))}.",
            stacklevel=5,
        )
    return whole[0]


def _lazy(path, number, series):
    """A dask array of the series, whose blocks are read when they are needed."""
    import dask.array as da

    view = _Series(os.path.abspath(path), number, bool(series.keyframe.is_tiled))
    zarr = view.opened
    chunks = list(zarr.chunks)
    colours = 1 if series.axes.endswith("S") else 0
    if view.tiled:
        for axis in (-1 - colours, -2 - colours):
            chunks[axis] *= max(1, _TILES // chunks[axis])
    chunks = [min(side, length) for side, length in zip(chunks, zarr.shape)]
    token = f"tiff-{view.path}-{number}-{os.stat(path).st_mtime_ns}"
    return da.from_array(view, chunks=tuple(chunks), name=token, meta=np.empty(0, zarr.dtype))


class _Series:
    """One image of a TIFF file; it travels to other processes as a path and is opened there."""

    def __init__(self, path, number, tiled):
        self.path, self.number, self.tiled = path, number, tiled
        self.shape, self.dtype = self.opened.shape, self.opened.dtype
        self.ndim, self.chunks = self.opened.ndim, self.opened.chunks

    @property
    def opened(self):
        with reading(self.path):
            return _opened(self.path, self.number, self.tiled, os.stat(self.path).st_mtime_ns)

    def __getitem__(self, where):
        with reading(self.path):
            return np.asarray(self.opened[where])


@lru_cache(maxsize=16)
def _opened(path, number, tiled, modified):
    """The series as a zarr array, which tifffile makes of it; kept open for the next block."""
    import tifffile
    import zarr

    mode = 0 if tiled else 2  # tiles, or whole pages
    store = tifffile.imread(path, series=number, level=0, aszarr=True, chunkmode=mode)
    return zarr.open_array(store, mode="r")


# --------------------------------------------------------------------- what is promised is there


def _count_pages(path):
    """How many pages (directories) the file holds; the chain of them must end within the file."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        head = file.read(16)
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        version = struct.unpack(f"{order}H", head[2:4])[0] if order and len(head) > 8 else 0
        if version not in (42, 43):
            raise Unreadable("it does not begin as a TIFF file does")
        big = version == 43
        count, entry, offset = ("Q", 20, "Q") if big else ("H", 12, "I")
        at = struct.unpack(f"{order}{offset}", head[8:16] if big else head[4:8])[0]
        seen = set()
        while at:
            if at in seen:
                raise Unreadable("its pages form a loop")
            seen.add(at)
            file.seek(at)
            entries = _number(file, order + count) if at < size else None
            if entries is not None:
                file.seek(entry * entries, os.SEEK_CUR)
                entries = _number(file, order + offset) if file.tell() < size else None
            if entries is None:
                raise Unreadable(
                    f"it was cut short: page {len(seen)} lies beyond the end of the file"
                )
            at = entries
    return len(seen)


def _number(file, kind):
    found = file.read(struct.calcsize(kind))
    return struct.unpack(kind, found)[0] if len(found) == struct.calcsize(kind) else None


def _promised(file, pages):
    """How many planes of the first image the metadata promises; None if it does not say."""
    if file.is_ome:
        return _promised_by_ome(file, pages)
    if file.is_imagej:
        known = file.imagej_metadata or {}
        of_axes = [int(known.get(name, 1)) for name in ("frames", "slices", "channels")]
        return max(int(known.get("images", 1)), int(np.prod(of_axes)))
    if file.is_shaped:
        shape = (file.shaped_metadata or [{}])[0].get("shape")
        if shape and all(side > 0 for side in shape):
            return max(1, int(np.prod(shape, dtype=float)) // max(1, file.pages.first.size))
    return None


def _promised_by_ome(file, pages):
    """Planes that the OME description says lie in the files; those it leaves out do not count."""
    found = _first_pixels(file)
    if found is None:
        return None
    sizes = {axis: int(found.get(f"Size{axis}", 1)) for axis in "CZT"}
    samples = [int(c.get("SamplesPerPixel", 1)) for c in found if c.tag.endswith("Channel")]
    sizes["C"] //= max(samples[:1] or [1])
    total = sizes["C"] * sizes["Z"] * sizes["T"]
    listed, alone = 0, True
    entries = [item for item in found if item.tag.endswith("TiffData")]
    for item in entries:
        if any(not 0 <= int(item.get(f"First{axis}", 0)) < n for axis, n in sizes.items()):
            continue
        alone = alone and not any(child.tag.endswith("UUID") for child in item)
        count = item.get("PlaneCount", item.get("NumPlanes"))
        listed += int(count) if count is not None else 1 if "IFD" in item.attrib else total
    promised = min(listed, total) if entries else total
    if promised > (pages if alone else _MOST_PLANES):
        raise Unreadable(
            f"it was cut short: its metadata promises {promised} planes, but it holds {pages}"
        )
    return promised


def _first_pixels(file):
    """The element of the OME description that tells of the first image's pixels."""
    root = ElementTree.fromstring(file.ome_metadata)
    return next((item for item in root.iter() if item.tag.endswith("Pixels")), None)


def _check_whole(file, series, promised):
    """All planes that are promised are there, and their data lie within the file."""
    planes = max(1, series.size // max(1, series.keyframe.size))
    if series.dataoffset is not None and series.dataoffset + series.nbytes > file.filehandle.size:
        raise Unreadable(
            f"it was cut short: {series.nbytes} bytes of pixels are promised, "
            f"{file.filehandle.size - series.dataoffset} are there"
        )
    present = planes if series.dataoffset is not None else _present(series)
    if file.is_imagej and series.axes.endswith("S"):  # colours may be told of as channels
        present *= series.shape[-1]
    if promised is not None and present < promised:
        raise Unreadable(
            f"it was cut short, or a file of its set is missing: its metadata promises {promised} "
            f"planes, {present} are there"
        )


def _present(series):
    """How many pages of the series are there, all with data that lie within their file."""
    pages = [page for page in series.pages if page is not None]
    for number, page in enumerate(pages):
        ends = [at + n for at, n in zip(page.dataoffsets, page.databytecounts)]
        if max(ends, default=0) > page.parent.filehandle.size:
            raise Unreadable(f"it was cut short: the pixels of page {number} are not all there")
    return len(pages) if len(series.pages) > 1 else max(1, series.size // series.keyframe.size)


def _note_unlisted(series, path):
    missing = sum(page is None for page in series.pages)
    if missing:
        warnings.warn(
            f"{path} leaves out {missing} of its {len(series.pages)} planes; they are read as 0.",
            stacklevel=5,
        )
