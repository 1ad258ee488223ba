"""Files and folders as arrays: TIFF, OME-TIFF, OME-Zarr, PNG, NumPy.

A file is one array; a folder, a glob or a list of files is one stack where the shapes agree, else
a list. What is larger than `pixels.LAZY` is opened as a dask array and not read before it is used.
"""

import glob
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from napari_metastructure.arrays.axes import without_channels
from napari_metastructure.arrays.blocks import is_lazy
from napari_metastructure.arrays.labels import common_type
from napari_metastructure.files import pixels as limits
from napari_metastructure.files.channels import by_case, is_nnunet, masks_beside
from napari_metastructure.files.errors import Unreadable, reading
from napari_metastructure.files.label_images import label_images, read_indexed
from napari_metastructure.files.makers import read_of_maker
from napari_metastructure.files.names import TIFF, is_zarr, paths_of, stems
from napari_metastructure.files.nnunet import dataset_of
from napari_metastructure.files.pairs import matched, pair_of
from napari_metastructure.files.pixels import Pixels, in_planes, plain
from napari_metastructure.files.records import says_partial
from napari_metastructure.files.tiff import read_tiff
from napari_metastructure.words import counted

__all__ = ["image_files", "read", "read_labels", "read_matched", "read_outcome", "read_pair"]


_SAME_SIZE = 0.01  # how much pixel sizes differ that count as one
_OF_MAKERS = (".czi", ".lif", ".nd2", ".lsm", ".oib", ".oif", ".vsi", ".ims", ".sld", ".dv")


def read(source: Any, *, missing: str = "fill") -> Pixels:
    """Read an image, a stack or a list of images.

    Parameters
    ----------
    source : path, str or sequence of these
        A file (TIFF, OME-TIFF, PNG, JPEG, ``.npy``), an OME-Zarr or Zarr folder, a folder of files,
        a glob such as ``"cells/*.tif"``, or a list of files. Files of one shape become one stack,
        in natural order (2 before 10). Where an image has a file for each channel, as in folders of
        nnU-Net, ``"cell.tif"`` stands for cell_0000.tif, cell_0001.tif ...
    missing : {"fill", "warn", "error"}
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

    Warns
    -----
    UserWarning
        One sentence on what a reader should know: units that are not known, planes that the
        metadata leaves out, further images in a file.
    """
    return _read_images(source, missing)


def _read_images(source, missing="fill", masks=None):
    """Images; `masks` are the files of their labels, as far as they are known."""
    cases = image_files(source, masks)
    paths, parts = _read_all([path for files in cases.values() for path in files], missing)
    parts = [_grey(part) for part in parts]
    if len(parts) == sum(map(len, cases.values())):
        found = dict(zip(paths, parts))
        parts = [_with_channels(files, found) for files in cases.values()]
        paths = list(cases)
    return _as_one(source, paths, parts)


def image_files(source: Any, masks: Sequence[Path] | None = None) -> dict[Path, list[Path]]:
    """The files of each image, one or one for each channel, see `channels.by_case`.

    Parameters
    ----------
    source : path, str or sequence of these
        As for `read`.
    masks : sequence of Path, optional
        The files of their labels, as far as they are known.

    Returns
    -------
    dict of {Path: list of Path}
        By the path that stands for all files of an image, which `read` takes too.
    """
    paths = paths_of(source)
    single = {path: [path] for path in paths}
    if isinstance(source, (str, os.PathLike)):
        path = Path(source).expanduser()
        if paths == [path]:
            return single
        if not path.exists() and not glob.has_magic(str(path)):
            return {path: paths}
    cases = by_case(paths, masks)
    several = next((files for files in cases.values() if files[1:]), None)
    if several is None or is_nnunet(several[0].parent):
        return cases
    mask = (masks_beside(paths) if masks is None else masks)[0]
    axes = [_read_one(path)[0].axes.rstrip("s") for path in (several[0], mask)]
    return cases if len(axes[0]) == len(axes[1]) else single


def _with_channels(files, found):
    """The files of one image along a first axis."""
    parts = [found[path] for path in files]
    if len(parts) == 1:
        return parts[0]
    for path, part in zip(files, parts):
        if part.axes.endswith("s") or (part.axes, part.data.shape) != (
            parts[0].axes,
            parts[0].data.shape,
        ):
            raise ValueError(
                f"{path} should be one channel, of the shape {parts[0].data.shape} as {files[0]}; "
                f"it has the shape {part.data.shape}."
            )
    whole = _stack(files, parts)
    complete = all(part.complete for part in parts)
    return replace(whole, axes="c" + parts[0].axes, names=(), complete=complete)


def read_labels(source: Any, *, missing: str = "fill") -> Pixels:
    """Read labels: as `read`, but always one integer per pixel.

    A palette's numbers, not its colours, are the labels; pictures of few colours become one label
    per colour; floats of whole numbers become integers that hold them.

    Parameters
    ----------
    source : path, str or sequence of these
    missing : {"fill", "warn", "error"}

    Returns
    -------
    Pixels
        Of integers or bool, without an axis of colours.

    Raises
    ------
    FileNotFoundError, ValueError, TypeError
        As for `read`; and if a file holds fractions, NaN, or a photograph. The sentence names it.
    """
    paths, parts = _read_all(_files_of_labels(source), missing, labels=True)
    return _as_one(source, paths, label_images(parts, paths))


def _files_of_labels(source):
    """The files of a source; labels never have a file for each channel."""
    paths = paths_of(source)
    if paths[1:] and isinstance(source, (str, os.PathLike)) and not glob.has_magic(str(source)):
        path = Path(source).expanduser()
        if not path.exists():
            raise FileNotFoundError(f"There is no file or folder {path}.")
    return paths


def read_outcome(source: Any, *, missing: str = "fill") -> Pixels:
    """Read what a segmentation gave: probabilities, which are floats from 0 to 1, or labels.

    Parameters
    ----------
    source : path, str or sequence of these
    missing : {"fill", "warn", "error"}

    Returns
    -------
    Pixels
        As of `read`, if all are floats from 0 to 1; else as of `read_labels`.
    """
    paths, parts = _read_all(_files_of_labels(source), missing, labels=True)
    if all(_may_be_probabilities(part.data) for part in parts):
        return _as_one(source, paths, [_grey(part) for part in parts])
    return _as_one(source, paths, label_images(parts, paths))


def _may_be_probabilities(data):
    if data.dtype.kind != "f":
        return False
    if is_lazy(data):
        import dask.array as da

        low, high = da.compute(da.nanmin(data), da.nanmax(data))
    else:
        known = data[~np.isnan(data)]
        low, high = known.min(initial=0), known.max(initial=0)
    return not (low < 0 or high > 1)


def _read_all(found, missing, labels=False):
    """The files, and what each holds; files that belong to one image count once."""
    paths, parts, taken = [], [], set()
    for path in found:
        if os.path.abspath(path) in taken:
            continue
        part, files = _read_one(path, len(found), missing, labels)
        taken.update(files)
        paths.append(path)
        parts.append(part if is_zarr(path) else _marked(path, part))
    return paths, parts


def _marked(path, pixels):
    """The pixels as partial, if a mark or the record beside them says so."""
    return replace(pixels, complete=False) if says_partial(path, pixels) else pixels


def _as_one(source, paths, parts):
    if not isinstance(source, (str, os.PathLike)):
        return _stack(paths, parts)
    if Path(source).expanduser() == paths[0]:
        return parts[0]
    return _marked(source, _stack(paths, parts))


def read_pair(
    source: Any,
    labels: Any = None,
    *,
    channel_axis: int | None = None,
    say: Callable[[str], Any] | None = None,
) -> tuple[Pixels, Pixels]:
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
    say : callable, optional
        Takes a sentence on which files belong together, and which are left out. By default it is a
        warning, where files are left out or their names do not fit.

    Returns
    -------
    images, labels : Pixels

    Raises
    ------
    FileNotFoundError, ValueError
        As for `read`, and if numbers, names or shapes do not match; the sentence says which.
    """
    source, labels = pair_of(source, labels, say)
    images, labels = read_matched(source, labels, say=say)
    _check_match(images, labels, channel_axis)
    return images, labels


def read_matched(
    images: Any,
    labels: Any,
    nouns: tuple[str, str] = ("image", "mask"),
    say: Callable[[str], Any] | None = None,
    readers: tuple = (None, read_labels),
) -> tuple[Pixels, Pixels]:
    """Read images (or probabilities) and labels, in the order of their names.

    Parameters
    ----------
    images, labels : path, str or sequence of these
    nouns : tuple of str
        What the sentence calls them.
    say : callable, optional
        As in `read_pair`.
    readers : tuple of callable
        Of the images and of the labels. None reads as `read` does, with the channels of folders of
        nnU-Net.

    Returns
    -------
    images, labels : Pixels
    """
    masks = paths_of(labels)
    cases = image_files(images, masks)
    pairs = matched(images, labels, cases, nouns)
    if say is not None and pairs.said:
        say(pairs.said)
    elif not pairs.is_expected:
        warnings.warn(pairs.said, stacklevel=3)
    of_images, of_labels = readers
    found = (of_images or partial(_read_images, masks=masks))(pairs.images)
    theirs = of_labels(pairs.labels)
    _tell_dataset(cases, theirs, say)
    return _as_alone(found, theirs), _as_alone(theirs, found)


def _as_alone(pixels, other):
    """One image as a stack of one, where its partner is a folder that holds but one image."""
    if isinstance(pixels.data, list) or isinstance(other.data, list):
        return pixels
    ours, theirs = (found.axes.translate({99: None, 115: None}) for found in (pixels, other))
    if theirs != f"i{ours}" or len(other.data) != 1:
        return pixels
    at = 1 if pixels.channel_axis == 0 else 0
    axes = f"{pixels.axes[:at]}i{pixels.axes[at:]}"
    scale, units, translation = (
        (*values[:at], new, *values[at:]) if values else ()
        for values, new in (
            (pixels.scale, 1.0),
            (pixels.units, "pixel"),
            (pixels.translation, 0.0),
        )
    )
    data = pixels.data[(slice(None),) * at + (None,)]
    place: dict[str, Any] = {"scale": scale, "units": units, "translation": translation}
    return replace(pixels, data=data, axes=axes, **place)


def _tell_dataset(cases, labels, say):
    """What the dataset.json of nnU-Net says, and labels that it does not name."""
    folders = {path.parent for path in cases}
    if len(folders) > 1 or not all(map(is_nnunet, folders)):
        return
    dataset = dataset_of(folders.pop())
    if dataset is None:
        return
    if say is not None and dataset.said:
        say(dataset.said)
    lazy = any(map(is_lazy, labels.arrays))  # these may be larger than memory
    unknown = "" if lazy else dataset.unknown(labels.arrays)
    if unknown:
        warnings.warn(unknown, stacklevel=4)


def _check_match(images, labels, channel_axis):
    ours, theirs = images.arrays, labels.arrays
    if len(ours) != len(theirs):
        raise ValueError(
            f"There {'is' if len(ours) == 1 else 'are'} {counted(len(ours), 'image')} but "
            f"{counted(len(theirs), 'label array')}; give one for each."
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


def _read_one(path, count=1, missing="fill", labels=False):
    """One file, one of `count` of about the same size, and the files that it takes along."""
    if is_zarr(path):
        return _read_zarr(path, missing), ()
    with reading(path):
        _check_regular(path)
        kind, files = path.suffix.lower(), ()
        if kind in TIFF:
            found, files = read_tiff(path, count, labels)
        elif kind == ".npy":
            found = _read_npy(path, count)
        elif kind in _OF_MAKERS:
            found = read_of_maker(path, count)
        else:
            found = _read_picture(path, labels)
        if found.data.dtype.kind not in "biufc":
            raise Unreadable(f"it holds {found.data.dtype}, not numbers")
        if not found.data.size:
            raise Unreadable("it holds no pixels")
    return found, files


def _check_regular(path):
    """A pipe would be waited for, for ever."""
    if path.exists() and not path.is_file():
        raise Unreadable("it is a pipe or a device, not a file")


def _read_npy(path, count):
    data = np.load(path, mmap_mode="r", allow_pickle=False)
    if data.ndim < 2:
        raise Unreadable(f"an image has at least two axes, not {data.ndim}")
    data = in_planes(data) if data.nbytes * count > limits.LAZY else np.array(data)
    return plain(data, "i" * (data.ndim - 2) + "yx")


def _read_picture(path, labels):
    palette = ()
    if labels:
        data, palette = read_indexed(path)
    else:
        from skimage.io import imread

        data = imread(BytesIO(path.read_bytes()))  # of damaged files it leaves a path open
    axes = "yx" + "s" * (data.ndim - 2)
    found = plain(data, axes if data.ndim < 4 else "i" * (data.ndim - 3) + "yxs")
    return replace(found, palette=palette)


def _read_zarr(path, missing):
    from napari_metastructure.files.ome_zarr import open_image

    image = open_image(path, missing=missing)
    units = tuple(unit or "pixel" for unit in image.units)
    axes = image.axes.replace("?", "i")
    place = tuple(image.translation) if any(image.translation) else ()
    state = {"complete": image.complete, "record": dict(image.record)}
    return Pixels(image.lazy, axes, tuple(image.scale), units, translation=place, **state)


def _grey(pixels):
    """Colours that are all the same, as masks saved as PNG have, become one channel."""
    if not pixels.axes.endswith("s"):
        return pixels
    data = pixels.data[..., :3]
    if data.shape[-1] == 3 and not _all_grey(data):
        return replace(pixels, data=data)
    return replace(pixels.without(data.ndim - 1), data=data[..., 0])


def _all_grey(data):
    """Whether no pixel has a colour; a lazy array is read up to the first plane that has one."""
    if not is_lazy(data):
        return bool((data == data[..., :1]).all())
    planes = (np.asarray(data[index]) for index in np.ndindex(data.shape[:-3]))
    return all((plane == plane[..., :1]).all() for plane in planes)


def _stack(paths, parts):
    """Files as one stack if they have one shape and kind, else as a list."""
    names = stems(paths)
    first = parts[0]
    shapes = {part.data.shape for part in parts}
    complete = all(part.complete for part in parts)
    palettes = {part.palette for part in parts}
    kept = {"complete": complete, "palette": palettes.pop() if len(palettes) == 1 else ()}
    kept["colours"] = next((part.colours for part in parts if part.colours), ())
    _tell_other_sizes(paths, parts)
    if len(shapes) > 1 or len({part.axes for part in parts}) > 1:
        data = [part.data for part in parts]
        return replace(first, data=data, names=names, record={}, translation=(), **kept)
    dtypes = {part.data.dtype for part in parts}
    whole = all(dtype.kind in "biu" for dtype in dtypes)
    name = f"The labels in {paths[0]} and others"
    dtype = common_type([part.data for part in parts], name) if whole else np.result_type(*dtypes)
    arrays = [part.data.astype(dtype, copy=False) for part in parts]
    if any(map(is_lazy, arrays)) or sum(array.nbytes for array in arrays) > limits.LAZY:
        import dask.array as da

        data = da.stack([da.asarray(array) for array in arrays])
    else:
        data = np.stack(arrays)
    scale, units = (1.0, *first.scale), ("pixel", *first.units)
    if first.translation and len({part.translation for part in parts}) == 1:
        kept["translation"] = (0.0, *first.translation)
    return Pixels(data, "i" + first.axes, scale, units, names, **kept)


def _tell_other_sizes(paths, parts):
    """A note where files differ in pixel size, of which that of the first one is taken."""
    for path, part in zip(paths, parts):
        if part.axes != parts[0].axes:
            continue
        alike = np.allclose(part.scale, parts[0].scale, rtol=_SAME_SIZE, atol=0)
        if part.units == parts[0].units and alike:
            continue
        sizes = (f"{one.scale[-1]:g} {one.units[-1]}" for one in (parts[0], part))
        first, other = (f"{p.name}: {size}" for p, size in zip((paths[0], path), sizes))
        warnings.warn(
            f"The pixel sizes of the files differ ({first}; {other}); that of {paths[0].name} is "
            "taken for all. To measure each in its own, use batch.",
            stacklevel=5,
        )
        return
