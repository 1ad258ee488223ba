"""Where a result goes: nothing there is lost, and it takes its name when it is whole.

A result is made in a folder beside its name, see `reservations`. When all is done it is renamed,
with its record.
"""

import fnmatch
import glob
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from napari_metastructure.files.errors import writing
from napari_metastructure.files.names import TIFF, is_zarr, paths_of, split_glob
from napari_metastructure.files.ome_zarr import is_own, own_mark
from napari_metastructure.files.records import (
    FOLDER_MARK,
    folder_mark,
    read_record,
    record_path,
    write_record,
)
from napari_metastructure.files.reservations import put_back, reserve
from napari_metastructure.files.results import own_record

__all__ = [
    "Output",
    "check_apart",
    "check_new",
    "free_name",
    "image_path",
    "with_ending",
]

_ENDINGS = (".ome.zarr", ".ome.tif", ".ome.tiff", ".record.json")


# ---------------------------------------------------------------------------------- names


def image_path(path: str | os.PathLike) -> Path:
    """The path of an image or labels to be written, with ``~`` filled in.

    Raises
    ------
    ValueError
        If its ending is none that can be written.
    """
    path = Path(path).expanduser()
    ending = path.suffix
    if ending in ("", ".zarr") or ending.lower() in (*TIFF, ".npy"):
        return path
    raise ValueError(
        f"{path.name} should end in .ome.tif, .ome.zarr or .npy, or have no ending to be a folder."
    )


def with_ending(path: str | os.PathLike, ending: str) -> Path:
    """A path with an ending, which is added where it is missing; dots in the name stay.

    Examples
    --------
    >>> with_ending("er_v0.1", ".safetensors").name
    'er_v0.1.safetensors'
    """
    path = Path(path).expanduser()
    name = path.name
    if name.lower().endswith(ending):
        name = name[: -len(ending)]
    return path.with_name(f"{name}{ending}")


def free_name(path: Path, word: str = "") -> Path:
    """A path like this one at which there is nothing: ``x.ome.tif``, ``x-2.ome.tif``, ...

    Parameters
    ----------
    path : Path
    word : str
        Added to the name in any case, such as "partial".
    """
    name = path.name.lower()
    ending = next((e for e in _ENDINGS if name.endswith(e)), path.suffix)
    start = path.name[: len(path.name) - len(ending)] + (f"-{word}" if word else "")
    number = 1
    while True:
        found = path.with_name(f"{start}{f'-{number}' if number > 1 else ''}{ending}")
        if found != path and not os.path.lexists(found) and not os.path.lexists(record_path(found)):
            return found
        number += 1


# --------------------------------------------------------------------------------- checks


def check_new(path: str | os.PathLike, *, overwrite: bool = False, of_a_run: bool = False) -> Path:
    """Whether a result can be written there, before the work begins.

    Parameters
    ----------
    path : path
    overwrite : bool
        Whether an earlier result may be replaced.
    of_a_run : bool
        Only what a record shows to be a result of this program is replaced; otherwise a single
        file is replaced whatever it is, and a folder only if it is a result.

    Returns
    -------
    Path
        With ``~`` filled in.

    Raises
    ------
    FileExistsError
        If there is something already that may not be replaced.
    FileNotFoundError, PermissionError
        If there is no such folder, or nothing may be written to it.
    """
    path = Path(path).expanduser()
    taken = [path] if os.path.lexists(path) else []
    if of_a_run and os.path.lexists(record_path(path)):
        taken.append(record_path(path))
    if taken and not overwrite:
        raise FileExistsError(f"{taken[0]} exists already; give another name, or --overwrite it.")
    folder = path.resolve().parent
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder} to write {path.name} to.")
    if not os.access(folder, os.W_OK):
        raise PermissionError(
            f"{folder} cannot be written to (permission denied); choose another folder."
        )
    if path in taken:
        _check_replaceable(path, of_a_run)
    elif taken:
        _check_record(path)
    return path


def _check_replaceable(path: Path, of_a_run: bool) -> None:
    """Refuse to replace what is no earlier result of this program."""
    advice = "it is not replaced: give another name, or remove it yourself."
    if path.is_symlink():
        raise FileExistsError(f"{path} is a link; {advice}")
    if path.is_dir():
        if not (is_own(path) if is_zarr(path) else _is_own_folder(path)):
            raise FileExistsError(f"{path} holds files that this program did not make; {advice}")
        if (
            os.path.lexists(record_path(path))
            and not _is_partial(path)
            and own_record(path) is None
        ):
            raise FileExistsError(f"{path} was changed since this program made it; {advice}")
    elif not path.is_file():
        raise FileExistsError(f"{path} is no file; {advice}")
    elif of_a_run and own_record(path) is None:
        raise FileExistsError(
            f"{path} was not made by this program, or was changed since; {advice}"
        )


def _check_record(path: Path) -> None:
    """A record without its result is replaced only if it is one."""
    beside = record_path(path)
    try:
        outputs = read_record(beside)["outputs"].values()
    except (ValueError, OSError):
        outputs = ()
    if not any(Path(out["path"]).name == path.name for out in outputs):
        raise FileExistsError(
            f"{beside} is not the record of {path.name}, so it is not replaced. Give another "
            "name, or remove it yourself."
        )


def _is_partial(path: Path) -> bool:
    mark = own_mark(path) if is_zarr(path) else folder_mark(path)
    return mark.get("complete") is False


def _is_own_folder(path: Path) -> bool:
    """Whether a folder holds the files that this program put there, and nothing else."""
    names = folder_mark(path).get("names")
    if not isinstance(names, list):
        return False
    return {item.name for item in path.iterdir()} <= {*map(str, names), FOLDER_MARK}


def check_apart(path: str | os.PathLike, source: Any, *, is_image: bool = True) -> None:
    """Refuse a result on or in what a run reads.

    Parameters
    ----------
    path : path
        Of the result.
    source : path, str or sequence of these
        As for `read.read`.
    is_image : bool
        The result would be read as an image if it lay in a folder of these.

    Raises
    ------
    ValueError
    """
    path = Path(path).expanduser()
    places = {_place(path), path.resolve()}
    if not isinstance(source, (str, os.PathLike)):
        for item in source:
            check_apart(path, item, is_image=is_image)
        return
    message = f"{path} is an input of this run; give the result another name."
    read = Path(source).expanduser()
    if read.is_dir() and not is_zarr(read):
        if any(is_image and read.resolve() in place.parents for place in places):
            raise ValueError(
                f"{path} lies in {read}, an input of this run; give the result another folder."
            )
        parts = [read, *paths_of(read)]
    else:
        parts = paths_of(read)
        if not read.exists() and not glob.has_magic(str(read)):
            parts = [*parts, read]  # stands for the files of its channels
        elif is_image and not read.exists() and _matches(places, read):
            raise ValueError(f"{path} matches {read}, an input of this run; give another name.")
    for part in parts:
        for known in {_place(part), part.resolve()}:
            if places & {known, *known.parents}:
                raise ValueError(message)
            if is_zarr(part) and any(known in place.parents for place in places):
                raise ValueError(message)
    if path.exists() and any(path.samefile(part) for part in parts if part.exists()):
        raise ValueError(message)


def _place(path: Path) -> Path:
    """The real place of a name, which may be that of a link."""
    path = Path(os.path.abspath(path))
    return path.parent.resolve() / path.name


def _matches(places: set[Path], pattern: Path) -> bool:
    """Whether one of the paths would be found by a glob."""
    folder, rest = split_glob(Path(os.path.abspath(pattern)))
    wanted = [*map(glob.escape, folder.resolve().parts), *Path(rest).parts]
    for place in places:
        if "**" in wanted and fnmatch.fnmatch(str(place), str(Path(*wanted))):
            return True
        if len(place.parts) == len(wanted) and all(map(fnmatch.fnmatch, place.parts, wanted)):
            return True
    return False


class Output:
    """A result under way, from its reservation to its name.

    Parameters
    ----------
    path : path
    overwrite : bool
        An earlier result may be replaced; it stays until the new one is whole.
    of_a_run : bool
        As for `check_new`.

    Attributes
    ----------
    path : Path
        The name that the result will have.
    draft : Path
        Where it is to be made: the same name in another folder.

    Raises
    ------
    FileExistsError, FileNotFoundError, PermissionError, OSError
        With one sentence, if the result cannot be written there.
    """

    def __init__(
        self, path: str | os.PathLike, *, overwrite: bool = False, of_a_run: bool = False
    ) -> None:
        self.path = check_new(path, overwrite=overwrite, of_a_run=of_a_run)
        self.overwrite = overwrite
        self._folder = reserve(self.path)
        self.draft = self._folder.resolve() / self.path.name

    def settle(self, partial: bool = False) -> Path:
        """Choose the name.

        It is another one if a whole result would be lost to a partial one, or if something has
        come to lie there.
        """
        if os.path.lexists(self.path) and (partial or not self.overwrite):
            self.path = free_name(self.path, "partial" if partial else "")
        return self.path

    def commit(self, record: dict[str, Any] | None = None) -> None:
        """Give the result its name, and its record that of the result.

        Raises
        ------
        OSError
            With one sentence; an earlier result is there as before.
        """
        beside, old = record_path(self.path), self._folder / "old"
        with writing(self.path):
            if record is not None:
                write_record(record_path(self.draft), record)
            old.mkdir()
            if record is not None and os.path.lexists(beside):
                beside.rename(old / beside.name)
            try:
                if self.draft.is_dir() and os.path.lexists(self.path):
                    self.path.rename(old / self.path.name)
                self._take_name()
                if record is not None:
                    record_path(self.draft).replace(beside)
            except OSError:
                put_back(self._folder, self.path.parent)
                raise
        self.discard()

    def _take_name(self) -> None:
        if self.draft.is_dir() or self.overwrite:
            self.draft.replace(self.path)
            return
        try:
            os.link(self.draft, self.path)  # unlike a rename, it replaces nothing
            self.draft.unlink()
        except FileExistsError:
            self.path = free_name(self.path)
            self._take_name()
        except OSError:  # a file system without hard links
            self.draft.replace(self.path)

    def keep_started(self) -> bool:
        """Give an OME-Zarr image that holds something already its name, marked as it is.

        Returns
        -------
        bool
            Whether there was one.
        """
        chunks = (item for item in self.draft.glob("0/**/*") if item.name != "zarr.json")
        if not any(item.is_file() for item in chunks):
            return False
        with suppress(OSError):
            self.settle(partial=True)
            self.commit()
            return True
        return False

    def discard(self) -> None:
        """Give the name free; what was made and has no name yet is removed."""
        shutil.rmtree(self._folder, ignore_errors=True)
