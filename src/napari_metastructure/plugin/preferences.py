"""What the user has set for all docks, in napari's Preferences (napari 0.9 or later)."""

import sys
from typing import Any

__all__ = ["preference", "use_threads"]

_PLUGIN = "napari-metastructure"


def preference(group: str, name: str) -> Any:
    """A value from the Preferences, as declared under ``configurations`` in ``napari.yaml``.

    Parameters
    ----------
    group, name : str
        Such as "computing" and "device".

    Returns
    -------
    str, int or None
        None where nothing is set, or this napari has no preferences of plugins.
    """
    try:
        from napari.settings import get_plugin_settings

        value = getattr(getattr(get_plugin_settings(_PLUGIN), group), name)
    except (ImportError, KeyError, AttributeError):
        return None
    return value or None


def use_threads() -> None:
    """Let torch use as many threads as set, in the thread that calls this, once it is imported."""
    count, torch = preference("computing", "threads"), sys.modules.get("torch")
    if count and torch is not None:
        torch.set_num_threads(count)
