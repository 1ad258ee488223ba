"""Names of units: pixel sizes in files, in napari and in OME."""

__all__ = ["full_name", "ome_name", "symbol"]

_SHORT = {
    "µm": "micrometer",
    "um": "micrometer",
    "micron": "micrometer",
    "\\u00B5m": "micrometer",
    "nm": "nanometer",
    "mm": "millimeter",
    "s": "second",
    "": "pixel",
    "ms": "millisecond",
}
_SYMBOLS = {
    "micrometer": "µm",
    "nanometer": "nm",
    "millimeter": "mm",
    "second": "s",
    "millisecond": "ms",
}


def full_name(unit):
    """The full name of a unit, such as "micrometer"; "pixel" if there is none."""
    return _SHORT.get(str(unit), str(unit))


def symbol(unit):
    """The symbol of a unit, as OME-TIFF spells it, such as "µm"."""
    return _SYMBOLS.get(str(unit), str(unit))


def ome_name(unit):
    """The name of a unit as OME-Zarr spells it; None for pixels."""
    if unit is None or str(unit) in ("", "pixel", "dimensionless"):
        return None
    import pint

    try:
        return str(pint.Unit(str(unit)))
    except (pint.UndefinedUnitError, ValueError):
        return str(unit)
