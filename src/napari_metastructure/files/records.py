"""The record beside a result: how it came about."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari_metastructure.files.errors import writing
from napari_metastructure.files.fingerprint import digest
from napari_metastructure.files.names import record_path

__all__ = [
    "FOLDER_MARK",
    "digests_of",
    "folder_mark",
    "load_json",
    "read_lines",
    "read_record",
    "record_path",
    "says_partial",
    "write_record",
]

FOLDER_MARK = ".napari-metastructure.json"
"""The file in a folder of results that tells their names, and whether they are all there."""

_LARGEST = 2**28  # bytes of a JSON file
_PARTS = {"config": dict, "options": dict, "inputs": dict, "outputs": dict, "versions": dict}


def write_record(path: str | os.PathLike, record: dict[str, Any]) -> None:
    """Write a record as JSON.

    Raises
    ------
    OSError
        With one sentence, if the disk is full or nothing may be written there.
    """
    with writing(path), open(path, "w", encoding="utf-8") as file:
        json.dump(record, file, indent=1, default=str)


def load_json(path: str | os.PathLike, what: str = "JSON") -> Any:
    """What a JSON file holds.

    Parameters
    ----------
    path : path
    what : str
        What the file should be, for the sentence.

    Raises
    ------
    ValueError
        If the file is none, too large, damaged or nested too deeply.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    if path.stat().st_size > _LARGEST:
        raise ValueError(f"{path} cannot be read as {what}: it is too large.")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError(f"{path} cannot be read as {what}: it is nested too deeply.") from None
    except PermissionError:
        raise PermissionError(f"{path} cannot be read: permission denied.") from None
    except (ValueError, OSError) as error:
        reason = str(error).splitlines()[0][:200]
        raise ValueError(f"{path} cannot be read as {what} ({reason}).") from None


def read_lines(
    path: str | os.PathLike, fits: Callable[[dict[str, Any]], bool] = bool
) -> list[dict[str, Any]]:
    """What the lines of a file hold, each a JSON object; a half written last one is cut off.

    What is appended later begins a line of its own.

    Parameters
    ----------
    path : path
        Need not exist.
    fits : callable, optional
        Whether an object is what a line should hold.

    Raises
    ------
    ValueError
        If another line is damaged, or one holds something else.
    """
    path = Path(path)
    if not path.exists():
        return []
    lines, rows = path.read_bytes().splitlines(keepends=True), []
    for number, line in enumerate(lines):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            if number < len(lines) - 1:
                raise ValueError(f"Line {number + 1} of {path} is damaged; remove it.") from None
            path.write_bytes(b"".join(lines[:-1]))
            return rows
        if not isinstance(row, dict) or not fits(row):
            raise ValueError(
                f"Line {number + 1} of {path} does not belong in this file; remove it."
            )
        rows.append(row)
    if lines and not lines[-1].endswith(b"\n"):
        path.write_bytes(b"".join(lines) + b"\n")
    return rows


def read_record(path: str | os.PathLike) -> dict[str, Any]:
    """The record of a run, checked for all that is asked of one.

    Returns
    -------
    dict
        ``operation`` (str); ``config``, ``options``, ``versions`` (dicts); ``inputs`` by role,
        each with ``path`` and ``sha256``; ``outputs`` by role, each with ``path`` and ``digest``.

    Raises
    ------
    ValueError, FileNotFoundError
        If the file is no such record.
    """
    record = load_json(path, "a record")
    if not _is_record(record):
        raise ValueError(f"{path} is not a record of a run of this program.")
    return record


def _is_record(record: Any) -> bool:
    if not isinstance(record, dict) or not isinstance(record.get("operation"), str):
        return False
    if not all(isinstance(record.get(name), kind) for name, kind in _PARTS.items()):
        return False
    return (
        _holds(record["inputs"], "path", (str, list))
        and _holds(record["inputs"], "sha256", str)
        and _holds(record["outputs"], "path", str)
        and _holds(record["outputs"], "digest", str)
    )


def _holds(items: dict[str, Any], name: str, kind: Any) -> bool:
    """Whether each of the items is a dict that has a value of this kind under the name."""
    found = [item.get(name) if isinstance(item, dict) else None for item in items.values()]
    return all(
        isinstance(value, kind)
        and (isinstance(value, str) or all(isinstance(part, str) for part in value))
        for value in found
    )


def says_partial(path: str | os.PathLike, pixels: Any) -> bool:
    """Whether the mark in a folder, or the record beside pixels, says that they are not finished.

    Parameters
    ----------
    path : path
        Of the file or folder.
    pixels : Pixels
        What was read of it; a record counts only if it is of these.

    Returns
    -------
    bool
    """
    path = Path(path).expanduser()
    if folder_mark(path).get("complete") is False:
        return True
    try:
        record = read_record(record_path(path))
    except (ValueError, OSError):
        return False
    return record.get("partial") is True and digest(pixels) in digests_of(record, path)


def folder_mark(path: Path) -> dict[str, Any]:
    """Our file in a folder of results: their ``names``, and whether it is ``complete``.

    Returns
    -------
    dict
        Empty if there is none.
    """
    try:
        found = json.loads((path / FOLDER_MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def digests_of(record: dict[str, Any], path: str | os.PathLike) -> set[str]:
    """The digests of the outputs of this name, wherever the folder was moved to."""
    name = Path(path).name
    return {out["digest"] for out in record["outputs"].values() if Path(out["path"]).name == name}
