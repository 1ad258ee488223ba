"""Segmentation from cheap, noisy or missing annotations, in napari and headless.

The public names load on first use, so that importing the package brings in
neither torch nor Qt.
"""

from importlib import import_module

try:
    from napari_metastructure._version import version as __version__
except ImportError:  # a source tree that was never built
    __version__ = "0+unknown"

_MODULES = {
    "density",
    "extraction",
    "metrics",
    "noise",
    "pseudolabels",
    "samples",
    "sweep",
    "transition",
    "volumes",
}
_NAMES = {
    "NoiseSpec": "noise",
    "corrupt": "noise",
    "TrainingConfig": "configs",
    "IGTTConfig": "configs",
    "SweepConfig": "configs",
    "segment": "igtt",
    "segment_all": "igtt",
    "sweep_all": "sweep",
    "fit": "training",
    "train": "training",
    "SegmentationModel": "model",
    "load_model": "model",
}

__all__ = ["__version__", *sorted(_MODULES), *sorted(_NAMES)]


def __getattr__(name):
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    if name in _NAMES:
        return getattr(import_module(f"{__name__}.{_NAMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return __all__
