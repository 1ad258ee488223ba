"""What the file system and the libraries of formats say, as sentences that name the file."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["Unreadable", "reading", "sentence", "writing"]

_DRAFT = re.compile(r"(?:\.([^/\\]+)\.part[/\\])+(?=\1)")  # see `outputs.Output.draft`
_KINDS = dict.fromkeys((".tif", ".tiff", ".btf"), "TIFF")
_KINDS |= dict.fromkeys((".zarr", ".zip", ".ozx"), "Zarr")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Unreadable(ValueError):
    """Why a file cannot be read, as the end of a sentence that begins with its name."""


def sentence(error: Any) -> str:
    """What an exception says, without the number that the system gives it.

    A result that is being made is called by the name that it is to have.

    Parameters
    ----------
    error : Exception

    Returns
    -------
    str
    """
    return _DRAFT.sub("", _said(error))


def _said(error):
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    if error.errno in _FULL and not error.strerror.endswith("."):
        where = error.filename or "the result"
        return f"The disk is full: {where} could not be written; make room and try again."
    if error.strerror.endswith("."):
        return error.strerror
    return f"{error.filename}: {error.strerror}." if error.filename else f"{error.strerror}."


@contextmanager
def reading(path: Any) -> Iterator[Any]:
    """Turn what a library says of a file into one sentence that names it.

    Parameters
    ----------
    path : path or str

    Raises
    ------
    PermissionError, FileNotFoundError, ValueError
    """
    try:
        yield
    except PermissionError:
        raise PermissionError(f"{path} may not be read: no permission.") from None
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no file {path}.") from None
    except Exception as error:
        kind = _KINDS.get(Path(path).suffix.lower(), "image")
        reason = _reason(error)
        if not isinstance(error, Unreadable):
            reason = f"it is damaged, cut short or of another kind ({reason})"
        raise ValueError(f"{path} cannot be read as {kind}: {reason}.") from None


def _reason(error):
    """The first line of what a library says, at most 200 characters of it."""
    if isinstance(error, MemoryError):
        return "there is not enough memory for it"
    lines = str(error).strip().splitlines() or [type(error).__name__]
    text = lines[0].rstrip(".")
    return text if len(text) <= 200 else f"{text[:200]} ..."


@contextmanager
def writing(path: Any, kept: str = "") -> Iterator[Any]:
    """Turn what the file system says into one sentence that names the file.

    Parameters
    ----------
    path : path or str
    kept : str, optional
        What becomes of the part that is written, such as "what was written so far is kept"; by
        default the user is told to try again.

    Raises
    ------
    OSError
        `PermissionError` and `FileExistsError` among them.
    """
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        raise _told(error, path, kept) from None


def _told(error, path, kept):
    if error.errno is None or str(error.strerror).endswith("."):  # a sentence already
        return error
    kind, path = OSError, _DRAFT.sub("", str(path))
    if error.errno in _FULL:
        message = f"The disk is full: {path} could not be written; "
        message += f"{kept or 'make room and try again'}."
    elif isinstance(error, PermissionError) or error.errno == errno.EROFS:
        kind = PermissionError
        message = f"{path} may not be written: no permission; choose another folder."
    else:
        message = f"{path} could not be written ({error.strerror or error})"
        message += f"; {kept}." if kept else "."
    clear = kind(message)
    clear.errno = error.errno
    return clear
