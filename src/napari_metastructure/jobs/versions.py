"""Versions of the packages a result depends on, for its record."""

from importlib.metadata import version

__all__ = ["versions"]


def versions():
    """Versions of the packages a result depends on."""
    names = ("napari-metastructure", "torch", "monai", "numpy", "scikit-image")
    return {name: version(name) for name in names}
