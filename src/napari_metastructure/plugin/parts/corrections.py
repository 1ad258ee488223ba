"""What the user paints on a mask that was made here, kept while the mask is made again."""

from functools import cached_property
from typing import Any

import numpy as np

__all__ = ["Corrections", "certain_labels"]


class Corrections:
    """The painted pixels of a mask layer.

    napari tells of strokes, not of undo and redo: a pixel that changed without a stroke is taken
    back if it has the value it had before it was painted.

    Parameters
    ----------
    mask : napari.layers.Labels
        Held in memory, with the values that were computed.
    """

    def __init__(self, mask: Any) -> None:
        self.mask = mask
        self._shown = np.array(mask.data)  # as of the last look
        self._painted = np.zeros(self._shown.shape, bool)
        mask.events.paint.connect(self._on_stroke)

    @cached_property
    def _before(self):
        """Of painted pixels: their value before. Copied at the first stroke only."""
        return self._shown.copy()

    def painted(self) -> np.ndarray:
        """Which pixels the user has painted, undo and redo counted; an array of bool."""
        changed = self._changed()
        if changed.any():
            data = np.asarray(self.mask.data)
            self._painted[changed] = data[changed] != self._before[changed]
            self._shown[changed] = data[changed]
        return self._painted

    def show(self, computed: np.ndarray) -> None:
        """Show a mask computed anew, with what was painted; it can still be undone.

        Parameters
        ----------
        computed : array of the layer's shape
        """
        free = ~self.painted()
        self.mask.data[free] = computed[free]
        self._shown[free] = self._before[free] = computed[free]
        self.mask.refresh()

    def _changed(self):
        return np.asarray(self.mask.data) != self._shown

    def _on_stroke(self, event: Any = None) -> None:
        changed = self._changed()
        first = changed & ~self._painted
        self._before[first] = self._shown[first]
        self._painted[changed] = True
        self._shown[changed] = np.asarray(self.mask.data)[changed]


def certain_labels(
    mask: np.ndarray, painted: np.ndarray, labels: np.ndarray | None, spatial_dims: int = 2
) -> np.ndarray:
    """Labels to train on: the planes that were corrected, and other labels elsewhere.

    Parameters
    ----------
    mask : (..., y, x) array of int
        A result with corrections.
    painted : array of bool
        Where it was painted; planes (or volumes) with such a pixel count as checked.
    labels : array of int, optional
        Labels of the other planes; without them, or where they do not have the mask's shape,
        these planes do not count (-1).
    spatial_dims : {2, 3}

    Returns
    -------
    array of int32
    """
    axes = tuple(range(mask.ndim - spatial_dims, mask.ndim))
    checked = painted.any(axis=axes, keepdims=True)
    other = -1 if labels is None or labels.shape != mask.shape else labels
    return np.where(checked, mask.astype(np.int32), np.asarray(other, np.int32))
