"""Files and folders as arrays, and arrays as files: TIFF, OME-TIFF, OME-Zarr, PNG, NumPy.

A file is one array; a folder, a glob or a list of files is one stack where the shapes agree, else
a list. What is larger than `LAZY` is opened as a dask array and not read before it is used.
"""

import errno
import glob
import hashlib
import os
import re
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from napari_metastructure.arrays.blocks import as_list, is_lazy

__all__ = [
    "Pixels",
    "check_new",
    "create_zarr",
    "digest",
    "fingerprint",
    "folder_layout",
    "in_place_of",
    "in_planes",
    "pair_of",
    "paths_of",
    "read",
    "read_pair",
    "write",
]

LAZY = 2**28
"""Bytes above which files are not read at once."""

_TIFF = (".tif", ".tiff", ".btf")
_OTHERS = (".png", ".jpg", ".jpeg", ".bmp", ".npy")
_IMAGES, _LABELS = "images", ("masks", "labels")
_SAMPLED = 64  # planes or parts that stand for a whole that is too large to hash
_HASHED_WHOLE = 2**30  # bytes


@dataclass(frozen=True)
class Pixels:
    """What was read.

    Attributes
    ----------
    data : array or list of arrays
        Numpy or dask; a list where the files' shapes differ.
    axes : str
        One letter per axis of (each) array, such as "zyx"; "i" where the file does not say.
    scale : tuple of float
        Pixel size, per axis.
    units : tuple of str
        Of the scale, per axis: "micrometer", or "pixel" where it is not known.
    names : tuple of str
        Of the planes along the first axis, or of the list's arrays; empty if they have none.
    complete : bool
        False for a result that was not finished.
    record : dict
        Ours, of how the pixels came about, where the file holds it.
    """

    data: object
    axes: str
    scale: tuple
    units: tuple
    names: tuple = ()
    complete: bool = True
    record: dict = field(default_factory=dict)

    @property
    def arrays(self):
        return as_list(self.data)

    @property
    def channel_axis(self):
        """The axis of the channels or colours; None if there is none."""
        found = [axis for axis, letter in enumerate(self.axes) if letter in "cs"]
        return found[0] if found else None

    def without(self, axis):
        """What the pixels mean when an axis is gone; `data` stays as it is."""
        if axis is None:
            return self
        keep = np.delete(np.arange(len(self.axes)), axis)
        names = () if axis in (0, -len(self.axes)) else self.names
        axes = "".join(self.axes[i] for i in keep)
        scale, units = ([values[i] for i in keep] for values in (self.scale, self.units))
        return replace(self, axes=axes, scale=tuple(scale), units=tuple(units), names=names)


# ------------------------------------------------------------------------------------- reading


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


def paths_of(source):
    """The files (or Zarr folders) that a source stands for, in natural order."""
    if not isinstance(source, (str, os.PathLike)):
        found = [path for item in source for path in paths_of(item)]
        if not found:
            raise ValueError("There is no file; give at least one.")
        return found
    path = Path(source).expanduser()
    if path.is_dir():
        if _is_zarr(path):
            return [path]
        found = [item for item in path.iterdir() if _is_image(item)]
        if not found:
            raise ValueError(
                f"There is no image in the folder {path}; it should hold TIFF, PNG or NumPy files."
            )
    elif path.exists():
        return [path]
    elif glob.has_magic(str(path)):
        found = [Path(item) for item in glob.glob(str(path), recursive=True)]
        if not found:
            raise FileNotFoundError(f"No file matches {path}.")
    else:
        raise FileNotFoundError(f"There is no file or folder {path}.")
    return sorted(found, key=_natural)


def folder_layout(path):
    """The folders (images, labels) of a folder laid out as images/ and masks/ or labels/.

    Returns
    -------
    tuple of Path, or None
        None if it is laid out in another way.
    """
    path = Path(path)
    images = path / _IMAGES
    labels = [path / name for name in _LABELS if (path / name).is_dir()]
    if _is_zarr(path) or not images.is_dir() or len(labels) != 1:
        return None
    return images, labels[0]


def pair_of(source, labels=None):
    """The sources of images and labels, where the first may be a folder that holds both."""
    if labels is None:
        layout = folder_layout(source) if isinstance(source, (str, os.PathLike)) else None
        if layout is None:
            raise ValueError(
                f"There are no labels: give them too, or a folder that holds {_IMAGES}/ and "
                f"{_LABELS[0]}/ in place of {source}."
            )
        source, labels = layout
        _check_names(source, labels)
    return source, labels


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


def _check_names(images, labels):
    """Folders that belong together hold the same names, whatever the endings."""
    ours, theirs = ({path.stem for path in paths_of(folder)} for folder in (images, labels))
    for more, fewer, names in ((images, labels, ours - theirs), (labels, images, theirs - ours)):
        if names:
            first = min(names, key=_natural)
            raise ValueError(
                f"{more} holds {len(names)} {'file' if len(names) == 1 else 'files'} that {fewer} "
                f"lacks, the first named {first}; both should hold the same names."
            )


def _check_match(images, labels, channel_axis):
    ours, theirs = images.arrays, labels.arrays
    if len(ours) != len(theirs):
        raise ValueError(
            f"There {_are(len(ours), 'image')} but {_are(len(theirs), 'label array', verb=False)}; "
            "give one for each."
        )
    axis = images.channel_axis if channel_axis is None else channel_axis
    for number, (image, label) in enumerate(zip(ours, theirs)):
        shape = list(image.shape)
        if axis is not None and label.ndim == image.ndim - 1:
            del shape[axis]
        if tuple(shape) != label.shape:
            name = images.names[number] if len(ours) > 1 and images.names else "the images"
            raise ValueError(
                f"The labels of {name} have the shape {label.shape}, but the images {image.shape}; "
                "they should be the same."
            )


def _are(count, noun, verb=True):
    text = f"{count} {noun}{'' if count == 1 else 's'}"
    return (("is " if count == 1 else "are ") if verb else "") + text


def _natural(path):
    """Sorts names as people do: 2 before 10."""
    parts = re.split(r"(\d+)", str(path))
    return [(int(part), "") if part.isdigit() else (-1, part.lower()) for part in parts]


def _is_image(path):
    if path.name.startswith("."):
        return False
    return path.suffix.lower() in (*_TIFF, *_OTHERS) or _is_zarr(path)


def _is_zarr(path):
    return path.is_dir() and (
        path.suffix == ".zarr" or any((path / n).exists() for n in ("zarr.json", ".zattrs"))
    )


def _read_one(path, count=1, missing="error"):
    """One file as `Pixels`; one of `count` of about the same size."""
    if _is_zarr(path):
        return _read_zarr(path, missing)
    with _named(path):
        if path.suffix.lower() in _TIFF:
            return _read_tiff(path, count)
        if path.suffix.lower() == ".npy":
            data = np.load(path, mmap_mode="r", allow_pickle=False)
            data = in_planes(data) if data.nbytes * count > LAZY else np.array(data)
            return _plain(data, "i" * (data.ndim - 2) + "yx")
        from skimage.io import imread

        data = imread(path)
        return _grey(_plain(data, "yx" + "s" * (data.ndim - 2)), path)


def _plain(data, axes, scale=None, units=None):
    return Pixels(data, axes, scale or (1.0,) * data.ndim, units or ("pixel",) * data.ndim)


def _read_zarr(path, missing):
    from napari_metastructure.files.ome_zarr import open_image

    image = open_image(path, missing=missing)
    units = tuple(unit or "pixel" for unit in image.units)
    axes = image.axes.replace("?", "i")
    record = dict(image.record)
    return Pixels(
        image.lazy, axes, tuple(image.scale), units, complete=image.complete, record=record
    )


def _read_tiff(path, count):
    import tifffile

    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        axes = series.axes.lower().replace("q", "i")
        shape, dtype = series.shape, series.dtype
        scale, units = _pixel_size(file, axes)
        if series.nbytes * count > LAZY and "s" not in axes:
            data = _lazy_tiff(path, shape, dtype, len(series.pages))
        else:
            data = series.asarray()
    return _grey(Pixels(data, axes, scale, units), path)


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

    with _named(path):
        return tifffile.imread(path, key=index) if index is not None else tifffile.imread(path)


def in_planes(data):
    """The array as a dask array; one that is not yet, in blocks of a plane."""
    import dask.array as da

    if is_lazy(data):
        return data

    return da.from_array(data, chunks=(1,) * (data.ndim - 2) + data.shape[-2:])


def _grey(pixels, path):
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
                sizes[axis.lower()] = float(known[f"PhysicalSize{axis}"]), _unit(unit)
        if "TimeIncrement" in known:
            sizes["t"] = float(known["TimeIncrement"]), _unit(known.get("TimeIncrementUnit", "s"))
    elif file.is_imagej:
        described = file.imagej_metadata
        unit = _unit(described.get("unit", ""))
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


def _unit(unit):
    """The full name of a unit."""
    short = {
        "µm": "micrometer",
        "um": "micrometer",
        "micron": "micrometer",
        "\\u00B5m": "micrometer",
    }
    short |= {
        "nm": "nanometer",
        "mm": "millimeter",
        "s": "second",
        "": "pixel",
        "ms": "millisecond",
    }
    return short.get(str(unit), str(unit))


def _stack(paths, parts):
    """Files as one stack if they have one shape and kind, else as a list."""
    names = tuple(_stem(path) for path in paths)
    first = parts[0]
    shapes = {part.data.shape for part in parts}
    complete = all(part.complete for part in parts)
    if len(shapes) > 1 or len({part.axes for part in parts}) > 1:
        data = [part.data for part in parts]
        return replace(first, data=data, names=names, complete=complete, record={})
    dtypes = Counter(part.data.dtype for part in parts)
    dtype = np.result_type(*dtypes)
    arrays = [part.data.astype(dtype, copy=False) for part in parts]
    if any(map(is_lazy, arrays)) or sum(array.nbytes for array in arrays) > LAZY:
        import dask.array as da

        data = da.stack([da.asarray(array) for array in arrays])
    else:
        data = np.stack(arrays)
    return Pixels(
        data, "i" + first.axes, (1.0, *first.scale), ("pixel", *first.units), names, complete
    )


def _stem(path):
    """A file's name without its endings."""
    name = path.name
    for ending in (".ome.tif", ".ome.tiff", ".ome.zarr", path.suffix):
        if name.lower().endswith(ending) and ending:
            return name[: -len(ending)]
    return name


@contextmanager
def _named(path):
    """Turn what a library says of a file into one sentence that names it."""
    try:
        yield
    except PermissionError:
        raise PermissionError(f"{path} may not be read: no permission.") from None
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no file {path}.") from None
    except MemoryError:
        raise
    except Exception as error:
        kind = "TIFF" if Path(path).suffix.lower() in _TIFF else "image"
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise ValueError(
            f"{path} cannot be read as {kind}: it is damaged, cut short or of another kind "
            f"({reason})."
        ) from None


# ------------------------------------------------------------------------------------- writing


def check_new(path, *, overwrite=False):
    """Whether a result can be written there, before the work begins.

    Raises
    ------
    FileExistsError
        If there is something already; nothing of the user's is overwritten unless asked for.
    FileNotFoundError, PermissionError
        If there is no such folder, or nothing may be written to it.
    """
    path = Path(path).expanduser()
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists already; give another name, or --overwrite it.")
    folder = path.resolve().parent
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder} to write {path.name} to.")
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{folder} may not be written to; choose another folder.")
    return path


def write(
    path, data, *, like=None, axes=None, scale=None, units=None, record=None, overwrite=False
):
    """Write an array, or a list of arrays, in the format that the name asks for.

    Parameters
    ----------
    path : path or str
        ``.tif`` or ``.ome.tif``: OME-TIFF; ``.zarr``: OME-Zarr, with the extra ``[zarr]``;
        ``.npy``: NumPy; no ending: a folder of one OME-TIFF per plane, named as the planes are.
    data : array or sequence of arrays
        Dask arrays are written part by part. A list becomes a folder.
    like : Pixels, optional
        What the result belongs to: its axes, scale, units and names are taken over. Axes that
        `data` has in front, such as that of the classes, count as channels.
    axes, scale, units : optional
        Per axis, in place of those of `like`.
    record : dict, optional
        How the pixels came about; an OME-Zarr image keeps it.
    overwrite : bool
        Replace what is there; otherwise that is an error.

    Raises
    ------
    FileExistsError, PermissionError, OSError, ValueError
        With one sentence. Nothing half written is left under the name.
    """
    path = check_new(path, overwrite=overwrite)
    if isinstance(data, (list, tuple)) or not path.suffix:
        _write_folder(path, data, like, overwrite)
        return
    axes, scale, units = _described(data, like, axes, scale, units)
    with _clear_errors(path):
        if path.suffix == ".zarr":
            _write_zarr(path, data, axes, scale, units, record, overwrite)
            return
        with in_place_of(path) as temporary:
            if path.suffix.lower() in _TIFF:
                _write_tiff(temporary, data, axes, scale, units)
            elif path.suffix.lower() == ".npy":
                np.save(temporary, np.asarray(data), allow_pickle=False)
            else:
                raise ValueError(
                    f"{path.name} should end in .ome.tif, .ome.zarr or .npy, or have no ending to "
                    "be a folder."
                )


def create_zarr(path, shape, dtype, *, like=None, overwrite=False):
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
    """
    from napari_metastructure.files.ome_zarr import create_image

    path = check_new(path, overwrite=overwrite)
    empty = np.broadcast_to(np.zeros((), dtype), shape)
    axes, scale, units = _described(empty, like, None, None, None)
    return create_image(
        path, shape, dtype, axes=axes, scale=scale, units=units, overwrite=overwrite
    )


def _described(data, like, axes, scale, units):
    """Axes, scale and units of `data`, as far as they are known."""
    known = len(like.axes) if like else 0
    extra = data.ndim - known if like else 0
    if axes is None:
        axes = "c" * extra + like.axes if like else "i" * (data.ndim - 2) + "yx"
    if scale is None:
        scale = (1.0,) * extra + like.scale if like else (1.0,) * data.ndim
    if units is None:
        units = ("pixel",) * extra + like.units if like else ("pixel",) * data.ndim
    return _known_axes(axes[-data.ndim :]), scale[-data.ndim :], units[-data.ndim :]


def _known_axes(axes):
    """Letters that OME knows, each once: what a file did not name becomes z, t or c."""
    free = [letter for letter in "ztc" if letter not in axes]
    taken, named = set(), []
    for letter in axes:
        if letter not in "tczyx" or letter in taken:
            letter = free.pop(0) if free else letter
        taken.add(letter)
        named.append(letter)
    return "".join(named)


def _write_tiff(path, data, axes, scale, units):
    import tifffile

    if data.dtype == bool or data.dtype.itemsize == 8:
        data = _compact(data)
    metadata = {"axes": axes.upper()}
    for axis, size, unit in zip(axes, scale, units):
        if unit and str(unit) != "pixel":
            if axis in "zyx":
                metadata[f"PhysicalSize{axis.upper()}"] = float(size)
                metadata[f"PhysicalSize{axis.upper()}Unit"] = _symbol(unit)
            elif axis == "t":
                metadata["TimeIncrement"] = float(size)
                metadata["TimeIncrementUnit"] = _symbol(unit)
    options = {"ome": True, "metadata": metadata, "compression": "zlib"}
    options["bigtiff"] = data.nbytes > 2**32 - 2**25
    options["photometric"] = "minisblack"
    if is_lazy(data):
        planes = (np.asarray(data[i]) for i in np.ndindex(data.shape[:-2]))
        tifffile.imwrite(path, planes, shape=data.shape, dtype=data.dtype, **options)
    else:
        tifffile.imwrite(path, np.ascontiguousarray(data), **options)


def _compact(data):
    """OME-TIFF has no bool and no 64-bit integers: the smallest type that holds the values."""
    if data.dtype == bool:
        return data.astype(np.uint8)
    if data.dtype.kind == "f":
        return data.astype(np.float32)
    low, high = int(data.min()), int(data.max())
    kind = np.result_type(np.min_scalar_type(low), np.min_scalar_type(high))
    if kind.itemsize == 8:
        raise ValueError(f"A TIFF cannot hold labels as large as {high}; write .ome.zarr or .npy.")
    return data.astype(kind)


def _symbol(unit):
    return {
        "micrometer": "µm",
        "nanometer": "nm",
        "millimeter": "mm",
        "second": "s",
        "millisecond": "ms",
    }.get(str(unit), str(unit))


def _write_zarr(path, data, axes, scale, units, record, overwrite):
    from napari_metastructure.files.ome_zarr import create_image

    order = sorted(range(data.ndim), key=lambda i: "tczyx".index(axes[i]))
    if order != list(range(data.ndim)):
        data = data.transpose(order)
        axes = "".join(axes[i] for i in order)
        scale, units = [scale[i] for i in order], [units[i] for i in order]
    dtype = np.uint8 if data.dtype == bool else data.dtype
    image = create_image(
        path, data.shape, dtype, axes=axes, scale=scale, units=units, overwrite=overwrite
    )
    for index in np.ndindex(data.shape[:-2]):
        image[index] = np.asarray(data[index])
    image.finish(record)


def _write_folder(path, data, like, overwrite):
    """One OME-TIFF per plane of a stack, or per array of a list."""
    arrays = list(data)
    names = like.names if like and len(like.names) == len(arrays) else ()
    names = names or [f"{number:04d}" for number in range(len(arrays))]
    path.mkdir(exist_ok=True)
    part = None
    if like:
        drop = 0 if isinstance(like.data, list) else 1
        part = replace(
            like, axes=like.axes[drop:], scale=like.scale[drop:], units=like.units[drop:]
        )
    for name, array in zip(names, arrays):
        write(path / f"{name}.tif", array, like=part, overwrite=overwrite)


@contextmanager
def in_place_of(path):
    """A name beside `path` to write to, renamed to it when all went well, else removed."""
    temporary = path.with_name(f".part-{os.getpid()}-{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _clear_errors(path):
    """Turn what the file system says into one sentence."""
    try:
        yield
    except OSError as error:
        if str(error.strerror).endswith("."):  # a sentence already
            raise
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            message = f"The disk is full: {path} could not be written; make room and try again."
            raise OSError(error.errno, message) from None
        if isinstance(error, PermissionError) or error.errno == errno.EROFS:
            raise PermissionError(
                f"{path} may not be written: no permission; choose another folder."
            ) from None
        raise


# --------------------------------------------------------------------------------- fingerprints


def fingerprint(source):
    """What tells whether files are still the same.

    Parameters
    ----------
    source : path, str or sequence of these
        As for `read`; other files too.

    Returns
    -------
    dict
        ``path`` (or a list of them), ``files``, ``bytes`` and ``sha256``: of the names and contents
        or, above 1 GiB, of the names, sizes, first and last 64 KiB of 64 files (then ``sampled`` is
        true).
    """
    files = _files(source)
    size = sum(path.stat().st_size for path in files)
    sampled = size > _HASHED_WHOLE
    chosen = files
    if sampled and len(files) > _SAMPLED:
        chosen = [files[i] for i in np.linspace(0, len(files) - 1, _SAMPLED).astype(int)]
    total = hashlib.sha256()
    for path in files if sampled else ():
        total.update(f"{path.name} {path.stat().st_size}\n".encode())
    for path in chosen:
        total.update(path.name.encode())
        with _named(path), open(path, "rb") as file:
            if not sampled:
                total.update(hashlib.file_digest(file, "sha256").digest())
                continue
            total.update(file.read(2**16))
            file.seek(max(0, path.stat().st_size - 2**16))
            total.update(file.read(2**16))
    one = isinstance(source, (str, os.PathLike))
    where = _absolute(source) if one else [_absolute(item) for item in source]
    found = {"path": where, "files": len(files), "bytes": size, "sha256": total.hexdigest()}
    return {**found, "sampled": True} if sampled else found


def _absolute(path):
    return os.path.abspath(Path(path).expanduser())


def _files(source):
    paths = paths_of(source)
    found = [
        sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for path in paths
    ]
    return [path for group in found for path in group]


def digest(pixels):
    """SHA-256 of pixels, with their shapes and types: the same however they are stored.

    Parameters
    ----------
    pixels : Pixels, array or sequence of arrays
        Above 1 GiB, 64 evenly spaced planes stand for all.
    """
    arrays = pixels.arrays if isinstance(pixels, Pixels) else as_list(pixels)
    total = hashlib.sha256()
    for array in arrays:
        kind = array.dtype.newbyteorder("<") if array.dtype.itemsize > 1 else array.dtype
        total.update(f"{array.shape} {kind.str}".encode())
        indices = list(np.ndindex(array.shape[:-2]))
        if array.nbytes > _HASHED_WHOLE and len(indices) > _SAMPLED:
            at = np.linspace(0, len(indices) - 1, _SAMPLED).astype(int)
            indices = [indices[i] for i in at]
        for index in indices:
            total.update(np.ascontiguousarray(np.asarray(array[index]), kind).data)
    return total.hexdigest()
