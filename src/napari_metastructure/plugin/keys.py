"""The keys of our docks: one table, none of which napari's Labels layers or window have."""

from collections.abc import Callable

from napari.viewer import Viewer

__all__ = ["KEYS", "bind_keys", "with_key"]

KEYS = {
    "run": "Ctrl+Enter",
    "stop": "Ctrl+.",
    "next_place": "N",
    "update": "U",
    "toggle_overlay": "Q",
    "toggle_uncertainty": "W",
}
"""Key of each action; it acts on the dock in front."""


def with_key(tooltip: str, action: str) -> str:
    """A tooltip that names the key of an action."""
    return f"{tooltip} Key: {KEYS[action]}."


def bind_keys(viewer: Viewer, act: Callable[[str], None] | None) -> None:
    """Let the keys of a viewer do something; with None, take the keys away again.

    Parameters
    ----------
    viewer : napari.Viewer
    act : callable
        Gets the name of the action, as in `KEYS`.
    """
    for name, key in KEYS.items():
        if act is None:
            viewer.bind_key(key, None, overwrite=True)
        else:
            viewer.bind_key(key, lambda _viewer, name=name: act(name), overwrite=True)
