"""Which values the classes of labels have, and which parameters of noise are allowed."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from napari_metastructure.arrays.labels import count_classes

__all__ = [
    "MOST_VALUES",
    "Fixed",
    "check_classes",
    "check_fractions",
    "check_label",
    "check_matrix",
    "check_number",
    "check_radius",
    "check_share",
    "check_whole",
    "class_values",
    "fits",
    "matrix_classes",
    "numbers_of",
    "restore",
    "values_of",
]


MOST_VALUES = 2**16
LARGEST_RADIUS = 1_000_000


class Fixed:
    """Marks the pixels that an operation must leave alone; None where there are none."""

    def __init__(
        self, ignore_label: int | None = None, classes: Sequence[int] | None = None
    ) -> None:
        self.ignored = {-1, check_label(ignore_label)} - {None}
        self.classes = None if classes is None else check_classes(classes)

    def __call__(self, labels):
        """Where they are in a block, as an array of bool; None if there are none."""
        fixed = [labels == value for value in self.ignored if fits(value, labels.dtype)]
        if self.classes is not None:
            fixed.append(~np.isin(labels, self.classes))
        return np.logical_or.reduce(fixed) if fixed else None


def restore(out: Any, labels: Any, fixed: Any) -> Any:
    """Put the labels back where they must not change; in place."""
    if fixed is not None:
        np.copyto(out, labels, where=fixed)
    return out


def fits(value: Any, dtype: Any) -> bool:
    """Whether an integer or bool type can hold a value."""
    if dtype.kind == "b":
        return value in (0, 1)
    info = np.iinfo(dtype)
    return info.min <= value <= info.max


def numbers_of(labels: Any, values: Any) -> Any:
    """The number of each pixel's class among the sorted class values."""
    return labels if values[-1] == values.size - 1 else np.searchsorted(values, labels)


def values_of(numbers: Any, values: Any) -> Any:
    """The class values that belong to numbers: the reverse of `numbers_of`."""
    if values[-1] == values.size - 1:
        return numbers.astype(values.dtype, copy=False)
    return values[numbers]


def class_values(labels: Any, num_classes: int | None, ignore_label: int | None) -> Any:
    """Sorted values of the classes, at least two, in the type of the labels."""
    present = count_classes(labels, check_label(ignore_label))[0]
    if num_classes is None:
        values = np.union1d(present, [0])
        values = np.array([0, 1]) if values.size == 1 else values
    else:
        check_whole("num_classes", num_classes, 2, MOST_VALUES)
        _check_top(present, num_classes, f"num_classes is {num_classes}")
        values = np.arange(num_classes)
    return _cast(values, labels.dtype)


def matrix_classes(
    labels: Any, num_classes: int, ignore_label: int | None, strict: bool = True
) -> Any:
    """Label values of the rows of a matrix: 0 to M - 1, or 0 and 255 for such a mask."""
    present = count_classes(labels, ignore_label)[0]
    if num_classes == 2 and set(present.tolist()) <= {0, 255} and 255 in present:
        return _cast(np.array([0, 255]), labels.dtype)
    if strict:
        _check_top(present, num_classes, f"the matrix has {num_classes} classes")
    return _cast(np.arange(num_classes), labels.dtype)


def _check_top(present, num_classes, text):
    if present.size and present[-1] >= num_classes:
        raise ValueError(
            f"{text}, so labels must lie between 0 and {num_classes - 1}, not {present[-1]}."
        )


def _cast(values, dtype):
    if not fits(int(values[-1]), dtype):
        raise ValueError(f"Labels of type {dtype} cannot hold class {values[-1]}.")
    return values.astype(dtype)


def check_label(value: Any, name: str = "ignore_label") -> Any:
    """A label value, or None; or a TypeError."""
    return None if value is None else check_whole(name, value, -(2**63), 2**63 - 1)


def check_classes(classes: Sequence[int] | None) -> Any:
    """Label values as an array, or a TypeError."""
    found = np.atleast_1d(np.asarray(classes))
    if found.ndim != 1 or (found.size and found.dtype.kind not in "biu"):
        raise TypeError(f"classes must be a list of label values, not {_short(classes)}.")
    return found.astype(int)


def check_number(name: str, value: Any) -> Any:
    """A real number, or a TypeError."""
    if not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} must be a number, not {_short(value)}.")
    return value


def check_whole(name: str, value: Any, lowest: Any, highest: Any) -> Any:
    """A whole number within bounds, as an int, or an error that says what is wrong."""
    if not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be a whole number, not {_short(value)}.")
    if not lowest <= value <= highest:
        raise ValueError(f"{name} must lie between {lowest} and {highest}, not {value}.")
    return int(value)


def _short(value):
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def check_share(name: str, value: Any) -> Any:
    """A number from 0 to 1 as a float, or a ValueError."""
    if not 0 <= check_number(name, value) <= 1:
        raise ValueError(f"{name} must lie between 0 and 1, not {value}.")
    return float(value)


def check_radius(radius: float, name: str = "radius") -> Any:
    """A number from 0 to a million as a float, or a ValueError."""
    if not 0 <= check_number(name, radius) <= LARGEST_RADIUS:
        raise ValueError(
            f"{name} must be a non-negative number of pixels, at most a million, not {radius}."
        )
    return float(radius)


def check_matrix(matrix: Any) -> Any:
    """A noise transition matrix as a float array, or a ValueError that says what is wrong."""
    if matrix is None:
        raise ValueError("transition noise needs a matrix, one row per true class.")
    matrix = _floats("A transition matrix", matrix)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise ValueError(f"A transition matrix must be square, not of shape {matrix.shape}.")
    if not (np.isfinite(matrix).all() and (matrix >= 0).all()):
        raise ValueError("A transition matrix must hold probabilities, from 0 to 1.")
    wrong = np.flatnonzero(np.abs(matrix.sum(1) - 1) > 1e-6)
    if wrong.size:
        total = matrix[wrong[0]].sum()
        raise ValueError(f"Row {wrong[0]} of the transition matrix must sum to 1, not {total:g}.")
    return matrix


def _floats(name, values):
    try:
        return np.array(values, float)
    except (ValueError, TypeError):
        raise TypeError(f"{name} must hold numbers, not {_short(values)}.") from None


def check_fractions(fractions: Any) -> Any:
    """Shares of the classes as a float array, or a ValueError that says what is wrong."""
    if np.ndim(fractions) == 0:
        fractions = fractions.item() if isinstance(fractions, np.ndarray) else fractions
        share = check_share("fractions", fractions)
        return np.array([1 - share, share])
    fractions = _floats("fractions", fractions)
    if fractions.ndim != 1 or not fractions.size or not (fractions >= 0).all():
        raise ValueError("fractions must be a list of shares, none negative, one per class.")
    if abs(fractions.sum() - 1) > 1e-6:
        raise ValueError(f"fractions must sum to 1, not {fractions.sum():g}.")
    return fractions
