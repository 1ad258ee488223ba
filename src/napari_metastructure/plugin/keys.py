"""The keys of our docks: one table, none of which napari's own layers or windows have."""

from collections.abc import Callable, Mapping

from napari.viewer import Viewer

__all__ = ["KEYS", "bind_keys", "with_key"]

KEYS = {
    "update": "U",
    "next_place": "N",
    "toggle_overlay": "Q",
    "toggle_uncertainty": "W",
}
"""Key of each action."""


def with_key(tooltip: str, action: str) -> str:
    """A tooltip that names the key of an action."""
    return f"{tooltip} Key: {KEYS[action]}."


def bind_keys(viewer: Viewer, actions: Mapping[str, Callable[[], None]] | None) -> None:
    """Let keys of a viewer do these actions; with None, take the keys away again.

    Parameters
    ----------
    viewer : napari.Viewer
    actions : dict of {str: callable}
        By names in `KEYS`.
    """
    for name, key in KEYS.items():
        if actions is None:
            viewer.bind_key(key, None, overwrite=True)
        elif name in actions:
            viewer.bind_key(key, lambda _viewer, act=actions[name]: act(), overwrite=True)
