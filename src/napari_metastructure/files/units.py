"""Names of units: pixel sizes in files, in napari and in OME. What pint does not know is pixels."""

import re
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

__all__ = ["full_name", "ome_name", "symbol"]

_PIXELS = {"", "pixel", "pixels", "px", "none", "dimensionless", "unknown", "uncalibrated", "\\0"}
_OTHER_NAMES = {"micron": "micrometer", "microns": "micrometer", "sec": "second"}
_SYMBOLS = {
    "micrometer": "µm",
    "nanometer": "nm",
    "millimeter": "mm",
    "second": "s",
    "millisecond": "ms",
}


def full_name(unit: Any, path: str | Path | None = None, warn: bool = True) -> str:
    """The full name of a unit, as napari and OME-Zarr spell it.

    Parameters
    ----------
    unit : str, pint.Unit or None
        In any spelling: "um", "µm" with either micro sign, escaped or not, "micron".
    path : path, optional
        The file that it is from, named in the note.
    warn : bool
        Give a note on a unit that is not known.

    Returns
    -------
    str
        Such as "micrometer"; "pixel" if it is none, or not known.
    """
    text = _plain(unit)
    if text.lower() in _PIXELS:
        return "pixel"
    found = _known(text) if re.fullmatch(r"[^\W\d][\w *^/.-]{0,39}", text) else None
    if found is None and warn:
        where = f" of {path}" if path else ""
        warnings.warn(
            f"The unit {text[:40]!r}{where} is not known; sizes are given in pixels.",
            stacklevel=2,
        )
    return found or "pixel"


def _plain(unit):
    """A unit without escapes, and with u for the micro sign."""
    text = str("" if unit is None else unit).strip().strip("\0")
    text = re.sub(r"\\u([0-9a-fA-F]{4})", lambda code: chr(int(code[1], 16)), text)
    text = re.sub(r"&#(\d{1,6});", lambda code: chr(int(code[1])), text)
    return text.replace("Â", "").replace("µ", "u").replace("μ", "u").replace("Î¼", "u")


@lru_cache(maxsize=256)
def _known(text):
    import pint

    for name in (_OTHER_NAMES.get(text.lower(), text), text.lower()):
        try:
            found = str(pint.Unit(name))
        except Exception:  # pint parses the text: free text raises what it likes
            continue
        return "pixel" if found == "dimensionless" else found
    return None


def symbol(unit: Any) -> Any:
    """The symbol of a unit, as OME-TIFF spells it, such as "µm"."""
    return _SYMBOLS.get(str(unit), str(unit))


def ome_name(unit: Any) -> Any:
    """The name of a unit as OME-Zarr spells it; None for pixels."""
    name = full_name(unit)
    return None if name == "pixel" else name
