"""Names of files and folders: what a source stands for, and which mask belongs to which image."""

import glob
import os
import re
from pathlib import Path

__all__ = ["OTHERS", "TIFF", "folder_layout", "is_zarr", "natural", "pair_of", "paths_of", "stem"]

TIFF = (".tif", ".tiff", ".btf")
OTHERS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".npy")
_ZARR = ("zarr.json", ".zattrs", ".zgroup", ".zarray")
_IMAGES, _LABELS = "images", ("masks", "labels")


def paths_of(source):
    """The files (or Zarr folders) that a source stands for, in natural order."""
    if not isinstance(source, (str, os.PathLike)):
        found = [path for item in source for path in paths_of(item)]
        if not found:
            raise ValueError("There is no file; give at least one.")
        return found
    path = Path(source).expanduser()
    if path.is_dir():
        if is_zarr(path):
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
    return sorted(found, key=natural)


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
    if is_zarr(path) or not images.is_dir() or len(labels) != 1:
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


def _check_names(images, labels):
    """Folders that belong together hold the same names, whatever the endings."""
    ours, theirs = ({path.stem for path in paths_of(folder)} for folder in (images, labels))
    for more, fewer, names in ((images, labels, ours - theirs), (labels, images, theirs - ours)):
        if names:
            first = min(names, key=natural)
            raise ValueError(
                f"{more} holds {len(names)} {'file' if len(names) == 1 else 'files'} that {fewer} "
                f"lacks, the first named {first}; both should hold the same names."
            )


def natural(path):
    """Sorts names as people do: 2 before 10."""
    parts = re.split(r"(\d+)", str(path))
    return [(int(part), "") if part.isdigit() else (-1, part.lower()) for part in parts]


def stem(path):
    """A file's name without its endings."""
    name = path.name
    for ending in (".ome.tif", ".ome.tiff", ".ome.zarr", path.suffix):
        if name.lower().endswith(ending) and ending:
            return name[: -len(ending)]
    return name


def _is_image(path):
    if path.name.startswith("."):
        return False
    return path.suffix.lower() in (*TIFF, *OTHERS) or is_zarr(path)


def is_zarr(path):
    """Whether it is a Zarr group or array: a folder with its metadata, or a zip file of one."""
    if path.suffix.lower() in (".zip", ".ozx"):
        return path.is_file()
    return path.is_dir() and (path.suffix == ".zarr" or any((path / n).exists() for n in _ZARR))
