"""Objects found against the objects of a reference: F1, average precision, merges and splits.

The rules are those of stardist, and of cellpose for the average precision: an object is found if
it overlaps an object of the reference with an IoU (intersection over union) of at least the
threshold, each object counting once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["THRESHOLDS", "ObjectScores", "ObjectTally"]

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class ObjectScores:
    """How well objects were found.

    Attributes
    ----------
    rows : list of dict
        For each threshold of the IoU: ``iou``, ``f1``, ``average_precision`` (found / (found +
        missed + extra)), ``precision``, ``recall``, and the numbers ``found``, ``missed``,
        ``extra``. The scores are nan where there is no object in either.
    in_reference, in_other : int
        Number of objects.
    merges : int
        Objects of the other that hold more than half of two or more of the reference.
    splits : int
        Objects of the reference that hold more than half of two or more of the other.
    """

    rows: list[dict[str, float]]
    in_reference: int
    in_other: int
    merges: int
    splits: int

    @property
    def count_error(self) -> int:
        """Objects too many, or with a minus sign too few."""
        return self.in_other - self.in_reference

    def __str__(self) -> str:
        return (
            f"Objects: {self.in_other} against {self.in_reference} in the reference "
            f"({self.count_error:+d}), {self.merges} merged, {self.splits} split."
        )


class ObjectTally:
    """Counts of objects found, missed and extra, filled plane by plane or volume by volume."""

    def __init__(self, thresholds: Sequence[float] = THRESHOLDS):
        self.thresholds = tuple(thresholds)
        self._found = np.zeros(len(self.thresholds), np.int64)
        self._counts = np.zeros(4, np.int64)

    def add(self, reference: Any, other: Any) -> None:
        """Count the objects of one plane or volume.

        Parameters
        ----------
        reference, other : arrays of int, of one shape
            One number for each object, 0 for none.
        """
        from scipy.sparse import csr_array
        from scipy.sparse.csgraph import maximum_bipartite_matching

        true_sizes, found_sizes, rows, columns, pixels = _overlaps(reference, other)
        iou = pixels / (true_sizes[rows] + found_sizes[columns] - pixels)
        shape = (len(true_sizes), len(found_sizes))
        for number, threshold in enumerate(self.thresholds):
            good = iou >= threshold
            if good.any():
                graph = csr_array((np.ones(good.sum()), (rows[good], columns[good])), shape=shape)
                matched = maximum_bipartite_matching(graph, perm_type="column")
                self._found[number] += np.count_nonzero(matched >= 0)
        within = columns[2 * pixels > true_sizes[rows]]  # the other that holds most of a true one
        around = rows[2 * pixels > found_sizes[columns]]
        merges, splits = (np.count_nonzero(np.bincount(one) > 1) for one in (within, around))
        self._counts += np.array((*shape, merges, splits), self._counts.dtype)

    def scores(self) -> ObjectScores:
        """The scores of all that was added."""
        true, other, merges, splits = self._counts.tolist()
        rows = [
            _scores(threshold, found, true, other)
            for threshold, found in zip(self.thresholds, self._found.tolist())
        ]
        return ObjectScores(rows, true, other, merges, splits)


def _overlaps(reference, other):
    """Pixels of each object, and of each pair of objects that overlap."""
    true_values, true = np.unique(np.asarray(reference), return_inverse=True)
    found_values, found = np.unique(np.asarray(other), return_inverse=True)
    keys, pixels = np.unique(
        true.ravel().astype(np.int64) * len(found_values) + found.ravel(), return_counts=True
    )
    rows, columns = np.divmod(keys, max(len(found_values), 1))
    true_sizes = np.bincount(rows, pixels, len(true_values)).astype(np.int64)
    found_sizes = np.bincount(columns, pixels, len(found_values)).astype(np.int64)
    is_true, is_found = true_values != 0, found_values != 0
    both = is_true[rows] & is_found[columns]
    rows = (np.cumsum(is_true) - 1)[rows[both]]
    columns = (np.cumsum(is_found) - 1)[columns[both]]
    return true_sizes[is_true], found_sizes[is_found], rows, columns, pixels[both]


def _scores(threshold: float, found: int, true: int, other: int) -> dict[str, float]:
    missed, extra = true - found, other - found
    nan = float("nan")
    return {
        "iou": threshold,
        "f1": 2 * found / (true + other) if true + other else nan,
        "average_precision": found / (found + missed + extra) if true + other else nan,
        "precision": found / other if other else nan,
        "recall": found / true if true else nan,
        "found": found,
        "missed": missed,
        "extra": extra,
    }
