"""Names of files and folders: which files a source stands for, and in which order."""

import glob
import os
import re
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

__all__ = [
    "OTHERS",
    "TIFF",
    "has_record",
    "images_below",
    "is_zarr",
    "natural",
    "paths_of",
    "record_path",
    "split_glob",
    "stem",
    "stems",
]

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
        folder, pattern = split_glob(path)
        pattern = os.path.join(glob.escape(str(folder)), pattern)
        found = [Path(item) for item in glob.glob(pattern, recursive=True)]
        if not found:
            raise FileNotFoundError(f"No file matches {path}.")
    else:
        found = _channel_files(path)
        if not found:
            raise FileNotFoundError(f"There is no file or folder {path}.")
    return sorted(found, key=natural)


def split_glob(path: Path) -> tuple[Path, str]:
    """The folder that is there under its very name, brackets and all, and the rest of a glob.

    Parameters
    ----------
    path : Path
        Such as "plate [2]/*.tif".
    """
    folder = next(folder for folder in path.parents if folder.exists())
    return folder, str(path.relative_to(folder))


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

    Links to folders are followed, each folder once.

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
        Of other files, of links that lead nowhere, and of our own results, that are left out.
    """
    folder = Path(folder).expanduser()
    home = folder.resolve()
    known = {home, *home.parents}  # links may lead back
    if leave_out is not None:
        known.add(Path(leave_out).expanduser().resolve())
    found: list[Path] = []
    others: list[Path] = []
    broken: list[Path] = []
    for top, folders, files in os.walk(folder, followlinks=True):
        here = [Path(top, name) for name in sorted(folders) if not name.startswith(".")]
        zarr = [path for path in here if is_zarr(path)]
        new = [path for path in here if path not in zarr and path.resolve() not in known]
        known.update(path.resolve() for path in new)
        folders[:] = [path.name for path in new]
        paths = [Path(top, name) for name in files if not name.startswith(".")]
        broken += [path for path in paths if not path.exists()]
        paths = [path for path in paths if path not in broken]
        images = [path for path in paths if _is_image(path)]
        others += [path for path in paths if path not in images and path.suffix != ".json"]
        found += _without_results(zarr + images)
    if not found:
        raise ValueError(f"There is no image in {folder}; it should hold TIFF, PNG or NumPy files.")
    _tell_left_out(others, "it is not an image", "they are not images")
    _tell_left_out(broken, "it is a link that leads nowhere", "they are links that lead nowhere")
    return sorted(found, key=natural)


def _tell_left_out(paths, of_one, of_many):
    if not paths:
        return
    listed = ", ".join(path.name for path in sorted(paths, key=natural)[:5])
    said = f"1 file is left out, as {of_one}"
    if paths[1:]:
        said = f"{len(paths)} files are left out, as {of_many}"
    warnings.warn(f"{said}: {listed}.", stacklevel=3)


def _without_results(paths):
    """The images of a folder without our own results among them, if it holds other images too."""
    results = [path for path in paths if has_record(path)]
    if not results or len(results) == len(paths):
        return paths
    listed = ", ".join(sorted(path.name for path in results)[:5])
    warnings.warn(
        f"{results[0].parent} holds results of this program, which are left out: {listed}.",
        stacklevel=4,
    )
    return [path for path in paths if path not in results]


def record_path(output: str | os.PathLike) -> Path:
    """Where the record of an output lies."""
    output = Path(output)
    return output.with_name(f"{output.name}.record.json")


def has_record(path: Path) -> bool:
    """Whether there is a record beside a file or folder, as beside each result of this program."""
    return record_path(path).exists()


def natural(path: Any) -> list:
    """Sorts names as people do: 2 before 10."""
    parts = re.split(r"(\d+)", str(path))
    return [(int(part), "") if part.isdecimal() else (-1, part.lower()) for part in parts]


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
