"""Versions of the packages a result depends on, for its record."""

from importlib.metadata import version

__all__ = ["versions"]


def versions() -> dict[str, str]:
    """Versions of the packages a result depends on."""
    names = ("napari-metastructure", "torch", "monai", "numpy", "scikit-image")
    return {name: version(name) for name in names}
