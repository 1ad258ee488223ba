"""Segmentation from cheap, noisy or missing annotations, in napari and headless.

The public names load on first use, so that importing the package brings in
neither torch nor Qt.
"""

import os
import sys
from importlib import import_module
from types import ModuleType
from typing import Any

# OpenMP reads this when PyTorch is loaded. By default its threads spin for long while they wait
# for each other: on a busy machine they take the cores from those that they wait for, and from
# the window.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

try:
    from napari_metastructure._version import version as __version__
except ImportError:  # a source tree that was never built
    __version__ = "0+unknown"

_MODULES = {
    "density": "labels",
    "extraction": "labels",
    "metrics": "labels",
    "noise": "labels",
    "objects": "labels",
    "samples": "plugin",
    "transition": "labels",
}
_NAMES = {
    "NoiseSpec": "labels.noise",
    "batch": "runs.batch",
    "compare": "labels.comparison",
    "corrupt": "labels.noise",
    "read": "files.read",
    "write": "files.write",
    "TrainingConfig": "learning.configs",
    "SegmentConfig": "few_labels.configs",
    "SweepConfig": "sweep.configs",
    "segment": "few_labels.segment",
    "sweep": "sweep.sweep",
    "train": "learning.training",
    "SegmentationModel": "learning.model",
    "load_model": "learning.loading",
    "export_bioimageio": "learning.bioimageio_export",
    "estimate_noise": "learning.noise_estimate",
    "find_suspects": "learning.suspects",
}

__all__ = ["__version__", *sorted(_MODULES), *sorted(_NAMES)]


class _Package(ModuleType):
    """Importing the folder `sweep` must not put it in the place of the function `sweep`."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _NAMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"{__name__}.{_MODULES[name]}.{name}")
    if name in _NAMES:
        return getattr(import_module(f"{__name__}.{_NAMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
