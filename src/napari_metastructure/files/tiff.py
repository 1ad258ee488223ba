"""TIFF files: pixels, axes and pixel sizes as OME, ImageJ and plain TIFF tell them."""

import numpy as np

from napari_metastructure.files import pixels as limits
from napari_metastructure.files.errors import reading
from napari_metastructure.files.pixels import Pixels
from napari_metastructure.files.units import full_name

__all__ = ["grey", "read_tiff"]


def read_tiff(path, count):
    import tifffile

    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        axes = series.axes.lower().replace("q", "i")
        shape, dtype = series.shape, series.dtype
        scale, units = _pixel_size(file, axes)
        if series.nbytes * count > limits.LAZY and "s" not in axes:
            data = _lazy_tiff(path, shape, dtype, len(series.pages))
        else:
            data = series.asarray()
    return grey(Pixels(data, axes, scale, units), path)


def _lazy_tiff(path, shape, dtype, pages):
    """A dask array of one chunk per page, read when it is needed; of one chunk if pages do not
    each hold one plane."""
    import dask.array as da
    from dask import delayed

    planes = int(np.prod(shape[:-2]))
    if pages != planes:
        return da.from_delayed(delayed(_read_page)(str(path), None), shape, dtype)
    read_page = delayed(_read_page)
    stack = [da.from_delayed(read_page(str(path), i), shape[-2:], dtype) for i in range(planes)]
    return da.stack(stack).reshape(shape)


def _read_page(path, index):
    import tifffile

    with reading(path):
        return tifffile.imread(path, key=index) if index is not None else tifffile.imread(path)


def grey(pixels, path):
    """Colours that are all the same, as masks saved as PNG have, become one channel."""
    if not pixels.axes.endswith("s"):
        return pixels
    data = pixels.data[..., :3]
    if data.shape[-1] == 3 and not ((data == data[..., :1]).all()):
        return pixels
    axes, ndim = pixels.axes[:-1], data.ndim - 1
    return Pixels(data[..., 0], axes, pixels.scale[:ndim], pixels.units[:ndim])


def _pixel_size(file, axes):
    """Scale and units per axis, from the OME or ImageJ description."""
    sizes = {}
    if file.is_ome:
        import tifffile

        description = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]
        described = description[0] if isinstance(description, list) else description
        known = described["Pixels"]
        for axis in "XYZ":
            if f"PhysicalSize{axis}" in known:
                unit = known.get(f"PhysicalSize{axis}Unit", "µm")
                sizes[axis.lower()] = float(known[f"PhysicalSize{axis}"]), full_name(unit)
        if "TimeIncrement" in known:
            sizes["t"] = (
                float(known["TimeIncrement"]),
                full_name(known.get("TimeIncrementUnit", "s")),
            )
    elif file.is_imagej:
        described = file.imagej_metadata
        unit = full_name(described.get("unit", ""))
        for axis, tag in (("x", "XResolution"), ("y", "YResolution")):
            if tag in file.pages[0].tags and unit != "pixel":
                per_unit, whole = file.pages[0].tags[tag].value
                if per_unit:
                    sizes[axis] = whole / per_unit, unit
        if "spacing" in described and unit != "pixel":
            sizes["z"] = float(described["spacing"]), unit
        if described.get("finterval"):
            sizes["t"] = float(described["finterval"]), "second"
    found = [sizes.get(axis, (1.0, "pixel")) for axis in axes]
    return tuple(size for size, _ in found), tuple(unit for _, unit in found)
