"""Names of files and folders: which files a source stands for, and in which order."""

import glob
import os
import re
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

__all__ = ["OTHERS", "TIFF", "images_below", "is_zarr", "natural", "paths_of", "stem", "stems"]

TIFF = (".tif", ".tiff", ".btf")
OTHERS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".npy")
_ZARR = ("zarr.json", ".zattrs", ".zgroup", ".zarray")


def paths_of(source: Any) -> list[Path]:
    """The files (or Zarr folders) that a source stands for, in natural order.

    The name of an image that has a file for each channel, cell.tif of cell_0000.tif and
    cell_0001.tif, stands for all of these.
    """
    if not isinstance(source, (str, os.PathLike)):
        found = [path for item in source for path in paths_of(item)]
        if not found:
            raise ValueError("Give at least one file.")
        return found
    path = Path(source).expanduser()
    if path.is_dir():
        if is_zarr(path):
            return [path]
        found = _without_results([item for item in path.iterdir() if _is_image(item)])
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
        found = _channel_files(path)
        if not found:
            raise FileNotFoundError(f"There is no file or folder {path}.")
    return sorted(found, key=natural)


def _channel_files(path):
    """The files of the channels of an image, from 0000."""
    name, found = stem(path), []
    while True:
        channel = path.with_name(f"{name}_{len(found):04}{path.name[len(name) :]}")
        if not channel.is_file():
            return found
        found.append(channel)


def images_below(
    folder: str | os.PathLike, leave_out: str | os.PathLike | None = None
) -> list[Path]:
    """The images (files or Zarr folders) in a folder and in the folders in it, in natural order.

    Parameters
    ----------
    folder : path
    leave_out : path, optional
        A folder in it that is not looked into.

    Returns
    -------
    list of Path

    Raises
    ------
    ValueError
        If there is none.

    Warns
    -----
    UserWarning
        Of other files, and of our own results, that are left out.
    """
    folder = Path(folder).expanduser()
    avoided = None if leave_out is None else Path(leave_out).expanduser().resolve()
    found: list[Path] = []
    others: list[Path] = []
    for top, folders, files in os.walk(folder):
        here = [Path(top, name) for name in folders if not name.startswith(".")]
        zarr = [path for path in here if is_zarr(path)]
        go_on = (path for path in here if path not in zarr and path.resolve() != avoided)
        folders[:] = [path.name for path in go_on]
        paths = [Path(top, name) for name in files if not name.startswith(".")]
        images = [path for path in paths if _is_image(path)]
        others += [path for path in paths if path not in images and path.suffix != ".json"]
        found += _without_results(zarr + images)
    if not found:
        raise ValueError(f"There is no image in {folder}; it should hold TIFF, PNG or NumPy files.")
    if others:
        listed = ", ".join(path.name for path in sorted(others, key=natural)[:5])
        count = "1 file is" if len(others) == 1 else f"{len(others)} files are"
        warnings.warn(f"{count} left out, as they are not images: {listed}.", stacklevel=2)
    return sorted(found, key=natural)


def _without_results(paths):
    """The images of a folder without our own results among them, if it holds other images too."""
    results = [path for path in paths if path.with_name(f"{path.name}.record.json").exists()]
    if not results or len(results) == len(paths):
        return paths
    listed = ", ".join(sorted(path.name for path in results)[:5])
    warnings.warn(
        f"{results[0].parent} holds results of this program, which are left out: {listed}.",
        stacklevel=4,
    )
    return [path for path in paths if path not in results]


def natural(path: Any) -> list:
    """Sorts names as people do: 2 before 10."""
    parts = re.split(r"(\d+)", str(path))
    return [(int(part), "") if part.isdigit() else (-1, part.lower()) for part in parts]


def stem(path: Any) -> str:
    """A file's name without its endings."""
    name = path.name
    for ending in (".ome.tif", ".ome.tiff", ".ome.zarr", path.suffix):
        if name.lower().endswith(ending) and ending:
            return name[: -len(ending)]
    return name


def stems(paths: Any) -> tuple[str, ...]:
    """The names of files without endings; those of one name in several folders get these too.

    Parameters
    ----------
    paths : sequence of Path

    Returns
    -------
    tuple of str
        "a_x" and "b_x" for a/x.tif and b/x.tif.
    """
    plain = [stem(path) for path in paths]
    counts = Counter(name.lower() for name in plain)
    return tuple(
        f"{path.parent.name}_{name}" if counts[name.lower()] > 1 and path.parent.name else name
        for path, name in zip(paths, plain)
    )


def _is_image(path):
    if path.name.startswith("."):
        return False
    return path.suffix.lower() in (*TIFF, *OTHERS) or is_zarr(path)


def is_zarr(path: Any) -> bool:
    """Whether it is a Zarr group or array: a folder with its metadata, or a zip file of one."""
    if path.suffix.lower() in (".zip", ".ozx"):
        return path.is_file()
    return path.is_dir() and (path.suffix == ".zarr" or any((path / n).exists() for n in _ZARR))
