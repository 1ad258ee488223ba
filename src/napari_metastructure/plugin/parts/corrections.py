"""What the user paints on a mask that was made here, kept while the mask is made again."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

__all__ = ["Corrections", "certain_labels"]


class Corrections:
    """The painted pixels of a mask layer.

    napari tells of strokes, not of undo and redo: a pixel that changed without a stroke is taken
    back if it has the value it had before it was painted. A stroke is looked for on its own planes
    only, and the mask is copied beside the window.

    Parameters
    ----------
    mask : napari.layers.Labels
        Held in memory, with the values that were computed.
    """

    def __init__(self, mask: Any) -> None:
        self.mask = mask
        pool = ThreadPoolExecutor(1)
        self._copying: Any = pool.submit(_copy, mask.data)
        pool.shutdown(wait=False)
        self._copied: Any = None
        self._painted = np.zeros(mask.data.shape, bool)
        self._before: dict[tuple, np.ndarray] = {}  # of planes: values before they were painted
        mask.events.paint.connect(self._on_stroke)

    @property
    def _shown(self):
        """The mask as of the last look."""
        if self._copied is None:
            self._copied = self._copying.result()
            self._copying = None
        return self._copied

    def painted(self) -> np.ndarray:
        """Which pixels the user has painted, undo and redo counted; an array of bool."""
        for plane in self._planes():
            changed, data = self._changed(plane)
            if changed.any():
                before = self._before_of(plane)
                self._painted[plane][changed] = data[changed] != before[changed]
                self._shown[plane][changed] = data[changed]
        return self._painted

    def show(self, computed: np.ndarray) -> None:
        """Show a mask computed anew, with what was painted; it can still be undone.

        Parameters
        ----------
        computed : array of the layer's shape
        """
        painted = self.painted()
        for plane in self._planes():
            free = ~painted[plane]
            arrays = [self.mask.data[plane], self._shown[plane]]
            if free.all():
                self._before.pop(plane, None)
                free = ...
            elif plane in self._before:
                arrays.append(self._before[plane])
            for array in arrays:
                array[free] = computed[plane][free]
        self.mask.refresh()

    def _planes(self) -> Iterator[tuple]:
        return np.ndindex(self._painted.shape[:-2])

    def _changed(self, plane):
        """Where a plane differs from the last look, and the plane."""
        data = np.asarray(self.mask.data[plane])
        return data != self._shown[plane], data

    def _before_of(self, plane):
        if plane not in self._before:
            self._before[plane] = self._shown[plane].copy()
        return self._before[plane]

    def _on_stroke(self, event: Any) -> None:
        if self._copied is None:  # perhaps with the stroke in it
            for atom in reversed(event.value):
                _put_back(self._shown, atom)
        for plane in {one for atom in event.value for one in _planes_of(atom)}:
            changed, data = self._changed(plane)
            first = changed & ~self._painted[plane]
            self._before_of(plane)[first] = self._shown[plane][first]
            self._painted[plane][changed] = True
            self._shown[plane][changed] = data[changed]


def _copy(data):
    return np.array(data)


def _put_back(array, atom):
    """Undo a part of napari's history in an array like the layer's."""
    if not hasattr(atom, "slice_key"):
        indices, old, _ = atom
        array[indices] = old
    elif atom.mask is None:
        array[atom.slice_key] = atom.old_values
    else:
        array[atom.slice_key][atom.mask] = atom.old_values


def _planes_of(atom):
    """The leading indices of the planes that a part of napari's history lies on."""
    if hasattr(atom, "slice_key"):
        leading = atom.slice_key[:-2]
        shape = [part.stop - part.start for part in leading]
        return {
            tuple(part.start + n for part, n in zip(leading, index)) for index in np.ndindex(*shape)
        }
    leading = [np.asarray(axis).ravel().tolist() for axis in atom[0][:-2]]
    return set(zip(*leading)) if leading else {()}


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
