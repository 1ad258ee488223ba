"""Short pauses: what Python does with all threads at a standstill, and thus the window's.

A garbage collection looks at every object there is: 0.1 s of them in napari, 0.4 s once PyTorch is
imported. Python collects while modules are imported, and napari whenever a layer goes. So most
objects are set aside, where collections pass over them, until one of them may be garbage.
"""

import ctypes
import gc
import os
import sys
import threading
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from weakref import WeakSet

from napari_metastructure.learning.networks import load_networks

__all__ = ["import_quietly", "note_new", "set_aside", "take_back", "take_back_for"]

_SWITCH = 0.001  # s until a thread that waits for Python gets it
_one_at_a_time = threading.Lock()


class _Aside:
    """Whether objects are set aside, and the layers of ours that were made since."""

    def __init__(self):
        self.on, self.since = False, WeakSet()


_aside = _Aside()


def set_aside() -> None:
    """Let garbage collections pass over all that is there now, unless something is aside."""
    if not _aside.on:
        _freeze()


def _freeze():
    _aside.on = True
    _aside.since.clear()
    gc.freeze()


def note_new(layer: Any) -> None:
    """Tell of a layer that was made since: it may go, and the rest stays aside."""
    _aside.since.add(layer)


def take_back() -> None:
    """Let garbage collections look at everything again, as when a dock is closed."""
    _aside.on = False
    gc.unfreeze()


def take_back_for(event: Any) -> None:
    """When a layer is about to go that was perhaps set aside, let collections find it.

    Parameters
    ----------
    event : napari.utils.events.Event
        ``viewer.layers.events.removing``.
    """
    if event.source[event.index] not in _aside.since:
        take_back()


def import_quietly(name: str) -> Any:
    """Import a module that needs PyTorch, while the window lives on.

    Parameters
    ----------
    name : str

    Returns
    -------
    module
    """
    with _one_at_a_time:
        _load_library()
        collects, interval = gc.isenabled(), sys.getswitchinterval()
        gc.disable()
        sys.setswitchinterval(_SWITCH)
        try:
            module = import_module(name)
            load_networks(optimisers=True)  # else the first network and its optimiser do
            return module
        finally:
            _freeze()
            sys.setswitchinterval(interval)
            if collects:
                gc.enable()


def _load_library():
    """Load PyTorch's largest library: an import does it with all threads at a standstill.

    A function of a library that is called by ctypes leaves the others alone. Should it fail, the
    import tells.
    """
    torch = find_spec("torch")
    if os.name == "posix" and torch is not None:
        for path in Path(torch.origin or "").parent.glob("lib/libtorch_cpu.*"):
            ctypes.CDLL(None).dlopen(os.fsencode(path), os.RTLD_NOW)
