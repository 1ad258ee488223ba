"""Maps of density on whole stacks, plane by plane or slab by slab, as a job."""

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from napari_metastructure.jobs.events import Note, Progress, Result
from napari_metastructure.jobs.job import Job
from napari_metastructure.labels import density
from napari_metastructure.labels.density import DensityConfig
from napari_metastructure.labels.planewise import (
    Between,
    TooManyClasses,
    as_classes,
    as_mask,
    counted,
    frozen,
    lazy,
    matrix_between,
    planes_of,
)

__all__ = [
    "ALL",
    "EXPECTED",
    "FOREGROUND",
    "OBSERVED",
    "RESIDUAL",
    "DensityMaps",
    "Request",
    "all_maps",
    "compute",
    "one_plane",
]

OBSERVED = "observed"
EXPECTED = "expected from clean layer + noise"
RESIDUAL = "residual in sigma"
FOREGROUND, ALL = "foreground", "all"
_SLAB = 8  # planes of a volume computed at once


@dataclass(frozen=True)
class Request:
    """What is to be computed, on arrays; `index` is the plane, None for all of them."""

    mode: str
    labels: Any
    clean: Any
    noise: list | None
    classes: str | int
    config: DensityConfig
    index: tuple | None


@dataclass
class DensityMaps:
    """Maps by class, the transition matrix, and the share of pixels within 3 sigma."""

    maps: dict
    between: Between | None = None
    inside: float = float("nan")


def all_maps(request: Request) -> DensityMaps:
    """The maps of all classes that are asked for: `compute` run to its end."""
    return list(Job(lambda job: compute(job, request)))[-1].value


def one_plane(request: Any) -> Any:
    """The map of the first class on one plane, for the preview: a job run to its end."""
    return list(Job(lambda job: compute(job, request, most=1)))[-1].value


def compute(job: Any, request: Any, most: Any = None) -> Generator[Any, Any, Any]:
    """Compute the maps part by part; the result is a `DensityMaps`.

    Labels that number objects are taken as a mask of these, with a `Note`.
    """
    yield Progress("starting", 0, 1)
    if request.index is None:
        request = replace(request, labels=frozen(request.labels), clean=frozen(request.clean))
    try:
        yield from _compute(job, request, most)
    except TooManyClasses as many:
        yield Note(f"{many}: the map is that of all of them together, against background.")
        labels, clean = as_mask(request.labels), as_mask(request.clean)
        request = replace(request, labels=labels, clean=clean, noise=None)  # that was of numbers
        yield from _compute(job, request, most)


def _compute(job, request, most):
    parts = planes_of(request.labels) if request.index is None else [request.index]
    between = None
    if request.clean is not None:
        between = yield from matrix_between(
            job, request.clean, request.labels, parts, request.noise
        )
    values = yield from _values(job, request, parts, between)
    if job.stopping:
        yield Result(None, stopped=True)
        return
    values, shape = values[:most], request.labels.shape
    if request.index is not None:
        shape = (1,) * len(request.index) + shape[-2:]
    maps = {value: np.empty(shape, np.float32) for value in values}
    inside, blocks = 0, _blocks(request, parts)
    for done, block in enumerate(blocks, start=1):
        if job.stopping:
            yield Result(None, stopped=True)
            return
        for out, one in zip(maps.values(), _maps(request, block.read, values, between)):
            out[block.write] = one[block.keep]
            inside += int(np.count_nonzero(np.abs(out[block.write]) < 3))
        yield Progress("densities", done, len(blocks))
    yield Result(DensityMaps(maps, between, inside / (np.prod(shape) * len(values))))


def _values(job, request, parts, between):
    """The classes that are asked for."""
    if job.stopping or isinstance(request.classes, int):
        return [request.classes]
    values = between.classes if between else None
    if values is None:
        found = yield from counted(job, request.labels, parts)
        values = [] if found is None else sorted({0, *found[0].tolist()})
    if request.classes == FOREGROUND:
        values = [value for value in values if value]
    if not values and not job.stopping:
        raise ValueError("The labels hold only background; choose class 0 or other labels.")
    return values


class _Block(NamedTuple):
    """What to read, where to write, and what of the result to keep."""

    read: tuple
    write: tuple
    keep: Any


def _blocks(request, parts):
    """Planes, or slabs of volumes with what their windows reach."""
    alone = request.index is not None
    if request.config.spatial_dims == 2:
        return [_Block(part, (0,) * len(part) if alone else part, ...) for part in parts]
    radius, step = request.config.radius, request.config.scale[0]
    reach = int(np.ceil((1 if request.config.kernel == "box" else 2.5) * radius / step)) + 3
    depth, blocks = request.labels.shape[-3], []
    for *lead, first in parts:
        if not alone and first % _SLAB:
            continue
        last = first + 1 if alone else min(first + _SLAB, depth)
        low, high = max(first - reach, 0), min(last + reach, depth)
        write = (0,) * len(lead) if alone else (*lead, slice(first, last))
        keep = slice(first - low, last - low)
        blocks.append(_Block((*lead, slice(low, high)), write, keep))
    return blocks


def _maps(request, part, values, between):
    """The maps of the classes on one plane or slab."""
    window = request.config.model_dump()
    binary = between is not None and between.binary
    labels = lazy(as_classes(request.labels[part], binary))
    if between is None:
        return np.asarray(density.observed(labels, classes=values, **window))
    clean = lazy(as_classes(request.clean[part], binary))
    if request.mode == EXPECTED:
        maps = density.expected(clean, between.matrix, **window)
    else:
        maps = density.residual(labels, clean, between.matrix, in_sigma=True, **window)
    return np.asarray(maps[[between.row(value) for value in values]])
