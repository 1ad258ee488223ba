"""Counts over whole stacks, plane by plane, so that a job can be watched, paused and stopped.

The functions that take a job are generators: ``value = yield from counted(job, ...)``. Once the
job is stopping the value is None.
"""

from collections.abc import Generator
from typing import Any, NamedTuple

import numpy as np

from napari_metastructure.arrays.labels import check_labels, count_classes
from napari_metastructure.jobs.events import Progress
from napari_metastructure.labels import transition
from napari_metastructure.labels.noise import NoiseSpec

__all__ = [
    "MOST_CLASSES",
    "Between",
    "TooManyClasses",
    "as_classes",
    "as_mask",
    "counted",
    "frozen",
    "is_binary",
    "labels_in",
    "lazy",
    "matrix_between",
    "merged",
    "noise_between",
    "number_objects",
    "planes_of",
    "some_classes",
    "spread",
    "summed",
    "why_numbers",
]

MOST_CLASSES = 32


class TooManyClasses(ValueError):
    """There are more labels than classes can be: they number objects."""


_MOST_PIXELS = 2**24


def planes_of(data: Any) -> Any:
    """The indices of all planes of an array."""
    return list(np.ndindex(data.shape[:-2]))


def spread(data: Any, pixels: Any = _MOST_PIXELS) -> Any:
    """Indices of planes, evenly spread over a stack, that hold about so many pixels at most."""
    parts = planes_of(data)
    step = max(1, round(len(parts) * np.prod(data.shape[-2:]) / pixels))
    return parts[step // 2 :: step] or parts[:1]


def some_classes(data: Any) -> Any:
    """Classes to choose from, of a stack too large to be read at once: those on some planes."""
    classes = labels_in(data)
    return [0] if why_numbers(classes) else classes


def number_objects(data: Any) -> bool:
    """Whether there are so many labels, on some planes of a stack, that they number objects."""
    return why_numbers(labels_in(data)) is not None


def merged(values: Any) -> str | None:
    """What becomes of the labels of a mask that is split into objects.

    Parameters
    ----------
    values : sequence of int
        The labels that occur, sorted.

    Returns
    -------
    str or None
        A sentence if there are several labels above 0.
    """
    found = [value for value in values if value > 0]
    if len(found) < 2:
        return None
    return (
        f"The labels {found[0]} to {found[-1]} are taken as one mask: where they touch they are "
        "one object."
    )


def why_numbers(values: Any) -> str | None:
    """Why labels look like the numbers of objects and not like classes; None if they do not.

    Parameters
    ----------
    values : sequence of int
        The labels that occur, sorted.
    """
    if len(values) > MOST_CLASSES:
        return f"There are more than {MOST_CLASSES} labels, which look like numbered objects"
    if np.count_nonzero(values) > 1 and values[-1] >= transition.MOST_CLASSES:
        return f"There are labels up to {values[-1]}, which look like numbered objects"
    return None


def labels_in(data: Any) -> list[int]:
    """The labels on some planes of a stack, and 0, sorted."""
    found = [count_classes(np.asarray(data[part]))[0] for part in spread(data)]
    return np.unique(np.concatenate([[0], *found])).astype(int).tolist()


def lazy(data: Any) -> Any:
    """One plane or volume as a dask array, for functions that refuse what a plane lacks."""
    from dask.array import from_array

    return data if hasattr(data, "dask") else from_array(data, chunks=-1)


def frozen(data: Any) -> Any:
    """A copy that later edits do not touch; made in the worker, for large stacks take a while."""
    return data.copy() if isinstance(data, np.ndarray) else data


def is_binary(*classes: Any) -> bool:
    """Whether all of these are the classes of masks, whatever the value of the foreground."""
    return all(np.count_nonzero(values) <= 1 for values in classes)


def as_classes(plane: Any, binary: Any) -> Any:
    """The plane as a numpy array; a mask has class 1 in place of its foreground value."""
    plane = np.asarray(plane)
    return np.minimum(plane, 1).astype(np.int8) if binary else plane


def as_mask(data: Any) -> Any:
    """Labels that number objects as a mask of these, lazily where they are.

    Labels below 0, which are not counted, stay.
    """
    return None if data is None else np.minimum(data, 1).astype(np.int8)


def summed(job: Any, activity: Any, parts: Any, function: Any) -> Generator[Any, Any, Any]:
    """The sum of ``function(part)`` over parts of an array."""
    total = 0
    for done, part in enumerate(parts, start=1):
        if job.stopping:
            return None
        total = total + function(part)
        yield Progress(activity, done, len(parts))
    return total


def counted(job: Any, data: Any, parts: Any) -> Generator[Any, Any, Any]:
    """Sorted classes of the planes, and the number of pixels of each.

    Raises
    ------
    TooManyClasses
    """
    check_labels(data)
    total = {}
    for done, part in enumerate(parts, start=1):
        if job.stopping:
            return None
        for value, count in zip(*count_classes(np.asarray(data[part]))):
            total[int(value)] = total.get(int(value), 0) + int(count)
        yield Progress("looking for classes", done, len(parts))
    values = sorted(total)
    if why := why_numbers(values):
        raise TooManyClasses(why)
    return np.array(values, int), np.array([total[value] for value in values], int)


def noise_between(before: Any, after: Any) -> Any:
    """The corruptions that lead from one record of noise to another; None if they do not tell."""
    before = before or []
    if after is None or after[: len(before)] != before:
        return None
    return after[len(before) :]


class Between(NamedTuple):
    """What lies between a clean and a noisy label.

    `classes` are the label values present in either, `binary` whether both are masks, `source`
    where the matrix comes from. The row of a class is `row`.
    """

    matrix: np.ndarray
    classes: list
    binary: bool
    source: str

    def row(self, value: Any) -> Any:
        """The row of the matrix that belongs to a class."""
        return min(value, 1) if self.binary else value


def matrix_between(
    job: Any, clean: Any, noisy: Any, parts: Any, known_noise: Any = None
) -> Generator[Any, Any, Any]:
    """A `Between`, with the matrix in closed form if the noise has one, else by counting."""
    values = yield from counted(job, clean, parts)
    others = yield from counted(job, noisy, parts)
    if job.stopping:
        return None
    classes = sorted({0, *values[0].tolist(), *others[0].tolist()})
    binary = is_binary(values[0], others[0])
    size = 2 if binary else classes[-1] + 1
    if known_noise is not None:
        matrix = _closed_form(known_noise, size, binary, *values)
        if matrix is not None:
            steps = [NoiseSpec(**step).summary() for step in known_noise]
            source = f"known from the record of the noise: {', then '.join(steps) or 'none'}"
            return Between(matrix, classes, binary, source)

    def count(part):
        return transition.count(*(as_classes(data[part], binary) for data in (clean, noisy)), size)

    counts = yield from summed(job, "counting", parts, count)
    if job.stopping:
        return None
    matrix = transition.normalised(counts)
    absent = np.isnan(matrix).all(1)
    matrix[absent] = np.eye(size)[absent]
    return Between(matrix, classes, binary, "counted on both layers")


def _closed_form(steps, size, binary, values, pixels):
    """The matrix of known noise; None where borders moved or classes are missing."""
    if not binary and len(values) < size:
        return None
    shares = np.zeros(size)
    shares[np.minimum(values, 1) if binary else values] = pixels / max(pixels.sum(), 1)
    try:
        return transition.of(steps, size, fractions=shares)
    except ValueError:
        return None
