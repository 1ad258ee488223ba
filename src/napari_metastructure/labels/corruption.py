"""Corruption of a whole stack as a job, and what a network could still learn from it."""

from collections.abc import Generator, Sequence
from typing import Any

import numpy as np

from napari_metastructure.jobs.events import Progress, Result
from napari_metastructure.labels import transition
from napari_metastructure.labels.noise import corrupt
from napari_metastructure.labels.planewise import as_classes

__all__ = ["LARGEST_PREVIEW", "corrupting", "matrix_and_verdict", "on_plane", "row_values"]

LARGEST_PREVIEW = 4096 * 4096
_JUDGED = 512  # side of the part of a plane on which moved borders are measured


def row_values(classes: Sequence[int], *, typed: bool = False) -> list[int]:
    """Label values of the rows of a transition matrix.

    Parameters
    ----------
    classes : sequence of int
        The labels above 0 that occur.
    typed : bool
        The matrix is one of the noise `transition`, with a row for each value up to the largest.
    """
    if len(classes) <= 1:
        return [0, *(classes or [1])]
    return list(range(max(classes) + 1)) if typed else [0, *classes]


def matrix_and_verdict(spec: Any, clean: Any, noisy: Any, names: Sequence[int]) -> Any:
    """Matrix, verdict and where they come from: the spec, or else the plane; None if unknown."""
    size, binary = len(names), len(names) == 2
    present = np.unique(clean)
    if len(present) < 2 or (not binary and present.max() > names[-1]):
        return None
    if binary:
        clean, noisy = as_classes(clean, binary), as_classes(noisy, binary)
    else:
        clean, noisy = _as_rows(clean, names), _as_rows(noisy, names)
    counts = transition.count(clean, noisy, size)
    try:
        matrix = transition.of(spec, size, fractions=counts.sum(1) / counts.sum())
        return matrix, transition.verdict(matrix), "in closed form"
    except ValueError:  # borders move
        matrix = transition.normalised(counts)
    middle = tuple(slice(max(0, n // 2 - _JUDGED // 2), n // 2 + _JUDGED // 2) for n in clean.shape)
    try:
        moved = transition.judge(clean[middle], noisy[middle], size).displacement
        verdict = transition.verdict(matrix, counts, displacement=moved)
    except ValueError:
        return None
    return matrix, verdict, "counted on this plane"


def _as_rows(labels, names):
    """The number of the row of each label; -1 where there is none, as for what is not counted."""
    rows = np.searchsorted(names, labels).clip(max=len(names) - 1)
    return np.where(np.asarray(names)[rows] == labels, rows, -1)


def _as_planes(data):
    """The stack as a dask array of planes."""
    import dask.array as da

    if hasattr(data, "dask"):
        return data
    return da.from_array(data, chunks=(1,) * (data.ndim - 2) + data.shape[-2:])


def on_plane(data: Any, index: Any, spec: Any) -> Any:
    """The corrupted plane, pixel for pixel as in the corrupted stack."""
    if spec.spatial_dims == 3 or data.size > LARGEST_PREVIEW * 4:
        return corrupt(np.asarray(data[index]), spec.model_copy(update={"spatial_dims": 2}))
    return np.asarray(corrupt(_as_planes(data), spec)[index].compute(scheduler="synchronous"))


def corrupting(job: Any, data: Any, spec: Any, index: Any) -> Generator[Any, Any, Any]:
    """Corrupt a stack plane by plane, or one plane of it; the result and the share changed."""
    yield Progress("corrupting", 0, 1)
    noisy = np.array(data) if index is not None else np.empty(data.shape, data.dtype)
    if data.ndim == 2 or spec.spatial_dims == 3:
        parts, corrupted = [()], corrupt(np.asarray(data), spec)
    else:
        parts = [index] if index is not None else list(np.ndindex(data.shape[:-2]))
        corrupted = corrupt(_as_planes(data), spec)
    changed = 0
    for done, part in enumerate(parts, start=1):
        if job.stopping:
            yield Result(None, stopped=True)
            return
        noisy[part] = np.asarray(corrupted[part])
        changed += int(np.count_nonzero(noisy[part] != np.asarray(data[part])))
        yield Progress("corrupting", done, len(parts))
    yield Result((noisy, changed / noisy.size))
