"""A folder beside a result's name, in which it is made, keeps a second run away from that name.

It is ``.NAME.part`` and tells which process made it, so that what a killed run left there is
removed by the next run that writes to the same folder.
"""

import json
import os
import shutil
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from napari_metastructure.files.errors import writing

__all__ = ["in_place_of", "put_back", "reserve"]

_OWNER = "owner.json"
_SECONDS_TO_SETTLE = 60.0  # a reservation without an owner is being made, for so long


def reserve(path: Path) -> Path:
    """Make the folder in which a result is made; it keeps other runs away from the name.

    Raises
    ------
    FileExistsError
        If another run is making a result of that name.
    OSError
        With one sentence.
    """
    _tidy(path.parent)
    folder = path.with_name(f".{path.name}.part")
    with writing(path):
        while True:
            try:
                folder.mkdir()
                break
            except FileExistsError:
                if not _recover(folder):
                    raise FileExistsError(
                        f"Another run is writing {path} now{_who(folder)}; wait for it, or "
                        f"give another name. If no run is active, remove {folder}."
                    ) from None
        (folder / _OWNER).write_text(json.dumps(_me()), encoding="utf-8")
    return folder


def _me() -> dict[str, Any]:
    import psutil

    return {
        "host": socket.gethostname(),
        "process": os.getpid(),
        "started": psutil.Process().create_time(),
    }


def _owner(folder: Path) -> dict[str, Any] | None:
    try:
        owner = json.loads((folder / _OWNER).read_text(encoding="utf-8"))
        return owner if isinstance(owner, dict) else None
    except (OSError, ValueError):
        return None


def _who(folder: Path) -> str:
    owner = _owner(folder) or {}
    return (
        f" (process {owner['process']} on {owner['host']})" if owner.keys() >= _me().keys() else ""
    )


def _is_alive(folder: Path) -> bool:
    """Whether the run that made a reservation may still be at work."""
    import psutil

    owner = _owner(folder)
    if owner is None or not owner.keys() >= _me().keys():
        with suppress(OSError):
            return time.time() - folder.stat().st_mtime < _SECONDS_TO_SETTLE
        return False
    if owner["host"] != socket.gethostname():
        return True
    try:
        started = psutil.Process(owner["process"]).create_time()
    except (psutil.Error, ValueError, TypeError):
        return False
    return abs(started - owner["started"]) < 1


def _recover(folder: Path) -> bool:
    """Remove the reservation of a killed run, and put back what it had moved away.

    Returns whether the name is free now.
    """
    if _is_alive(folder):
        return False
    taken = folder.with_name(f"{folder.name}-{uuid.uuid4().hex}")
    try:
        folder.rename(taken)
    except FileNotFoundError:  # another run was faster
        return True
    if _is_alive(taken):  # and has made its own by now
        taken.rename(folder)
        return False
    put_back(taken, folder.parent)
    shutil.rmtree(taken, ignore_errors=True)
    return True


def put_back(taken: Path, home: Path) -> None:
    """End what a killed run was doing while it renamed its result."""
    old = taken / "old"
    for item in sorted(old.iterdir(), key=lambda p: len(p.name)) if old.is_dir() else ():
        is_record = item.name.endswith(".record.json")
        if is_record and not os.path.lexists(home / item.name.removesuffix(".record.json")):
            continue
        if not os.path.lexists(home / item.name):
            item.rename(home / item.name)
    for item in taken.glob("*.record.json"):  # the result has its name already, its record not yet
        result = home / item.name.removesuffix(".record.json")
        if result.exists() and not (taken / result.name).exists():
            item.replace(home / item.name)


def _tidy(folder: Path) -> None:
    """Remove what killed runs left in a folder."""
    with suppress(OSError):
        for found in folder.glob(".*.part"):
            if found.is_dir() and (found / _OWNER).is_file():
                _recover(found)


@contextmanager
def in_place_of(path: Path) -> Iterator[Path]:
    """A path to write a file to, which takes the place of `path` when all went well.

    Yields
    ------
    Path
        Of the same name, in another folder.
    """
    folder = reserve(path)
    try:
        yield folder / path.name
        with writing(path):
            (folder / path.name).replace(path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
