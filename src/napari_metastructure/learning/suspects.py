"""Where are the labels wrong? Regions where a network and the labels disagree, ranked.

The network has to be one that did not learn these very labels by heart: train on one half of the
images, judge the other, and the reverse (cross-fitting, as in
"Confident learning", Northcutt et al. 2021).
"""

from collections.abc import Generator, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_metastructure.jobs.events import Done, Progress, Result
from napari_metastructure.jobs.job import Job, events_within

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Suspects", "correct", "find_suspects", "suspects_from"]

_LEAST_OVERLAP = 0.2  # of an object, with its counterpart; below, there is none


class Suspects(NamedTuple):
    """Regions where the labels are probably wrong.

    Attributes
    ----------
    table : pandas.DataFrame
        Most suspect first: ``rank`` from 1, ``image``, ``kind`` ("missed object", "extra object",
        "wrong outline"), ``label`` and ``suggested`` (label values), the centre (``y``, ``x``,
        before them ``z`` or ``axis_0`` ...), ``area`` in pixels, ``confidence`` (mean probability
        that the label is wrong) and ``score``.
    regions : list of arrays of int32
        Per image, the rank of the suspect at each pixel; 0 elsewhere.
    """

    table: "pd.DataFrame"
    regions: list[NDArray]


def find_suspects(images: Any, labels: Any, config: Any = None, **params: Any) -> Job:
    """Find where labels are probably wrong: missed and extra objects, outlines that are off.

    Two networks are trained, each on every second image; each judges the images of the other.

    Parameters
    ----------
    images : sequence of arrays
        At least two, as for `train`.
    labels : sequence of arrays of int
        Drawn as regions; errors in single pixels form no regions, and are not found. If they
        number objects, set ``as_mask=True``.
    config : TrainingConfig or dict, optional
    **params
        As for `train`; the same for both networks.

    Returns
    -------
    Job
        An iterator of the events of both trainings and at last `Result` with `Suspects`, None if
        it was stopped; ``run()`` returns them.

    Raises
    ------
    ValueError
        If there are fewer than two images, not as many labels, or the halves differ in classes.
    """
    from napari_metastructure.learning.configs import TrainingConfig

    config = TrainingConfig.of(config, **params)
    if len(images) != len(labels):
        raise ValueError(f"There are {len(images)} images but {len(labels)} label arrays.")
    if len(images) < 2:
        raise ValueError(
            "Suspects need at least two images: a network trained on one half checks the other."
        )
    if config.unannotated:
        raise ValueError(
            "Suspects are looked for in labels that are drawn as regions; strokes leave most "
            "pixels out."
        )
    _check_classes(labels, config)

    def work(job: Any) -> Generator[Any, Any, None]:
        found: dict[int, NDArray] = {}
        for half in (0, 1):
            others = range(1 - half, len(images), 2)
            done = yield from _trained(
                job, [images[i] for i in others], [labels[i] for i in others], config
            )
            if job.stopping:
                yield Result(None, stopped=True)
                return
            for i in range(half, len(images), 2):
                yield Progress("checking the images of the other half", i, len(images))
                found[i] = done.model.predict(images[i])
        yield Result(
            suspects_from(
                [found[i] for i in range(len(images))],
                labels,
                done.model.classes,
                spatial_dims=config.spatial_dims,
                ignore_label=config.ignore_label,
            )
        )

    return Job(work)


def _check_classes(labels, config):
    """Refuse halves of which one lacks a class of the other."""
    from napari_metastructure.arrays.labels import as_labels, count_classes

    first, second = (
        {
            min(int(value), 1) if config.as_mask else int(value)
            for label in labels[half::2]
            for value in count_classes(as_labels(label), config.ignore_label)[0]
        }
        for half in (0, 1)
    )
    lacking = sorted((first ^ second) - {0})
    if lacking:
        raise ValueError(
            f"Label {lacking[0]} occurs only in every second image, so a network that was "
            "trained on the others cannot check it; give more images, or set as_mask if the labels "
            "number objects."
        )


def _trained(job, images, labels, config):
    """`Done` of a training within another job; generator of its other events."""
    from napari_metastructure.learning.training import train

    done = None
    for event in events_within(job, train(images, labels, config)):
        if isinstance(event, Done):
            done = event
        else:
            yield event
    return done


def suspects_from(
    probabilities: Sequence[NDArray],
    labels: Sequence[NDArray],
    classes: Sequence[int] = (0, 1),
    *,
    spatial_dims: int = 2,
    ignore_label: int | None = None,
) -> Suspects:
    """Regions where the most probable class is not that of the labels, most suspect first.

    What makes a region suspect is the sum of the probability that its labels are wrong, less one
    half, weighted by the depth inside the region: thick and certain ones come first, rims of a
    pixel last. For labels drawn as regions; labels that err pixel by pixel have none.

    Parameters
    ----------
    probabilities : sequence of arrays of float, [0, 1]
        Of the object; with more than two classes a first axis for them.
    labels : sequence of arrays of int
        -1 and `ignore_label` do not count.
    classes : sequence of int
        Label values, background first. With two, any label but 0 is object.
    spatial_dims : {2, 3}
        Regions extend along this many last axes.
    ignore_label : int, optional

    Returns
    -------
    Suspects

    Raises
    ------
    ValueError
        If numbers or shapes of probabilities and labels differ.
    """
    import pandas as pd

    from napari_metastructure.learning.patches import class_indices

    if len(probabilities) != len(labels):
        raise ValueError(f"There are {len(probabilities)} maps but {len(labels)} label arrays.")
    rows, regions = [], []
    for number, (p, label) in enumerate(zip(probabilities, labels)):
        p, label = np.asarray(p, dtype=np.float32), np.asarray(label)
        p = np.stack([1 - p, p]) if len(classes) == 2 else p
        if p.shape != (len(classes), *label.shape):
            raise ValueError(f"Labels of shape {label.shape} do not fit map {number}.")
        indices = class_indices(label, list(classes), ignore_label)
        found = _of_one(p, indices, _neighbours(label.ndim, spatial_dims))
        rows += [{"image": number, **row} for row in found[0]]
        regions.append(found[1])
    axes = _axes(labels, spatial_dims)
    rows = [{**row, **dict(zip(axes, row["centre"]))} for row in rows]
    columns = ["image", "kind", "label", "suggested", *axes, "area", "confidence", "score"]
    table = pd.DataFrame(rows, columns=[*columns, "_region"])
    for name in ("label", "suggested"):
        table[name] = np.asarray(classes)[table[name].astype(int)]
    table = table.sort_values("score", ascending=False, kind="stable", ignore_index=True)
    table.insert(0, "rank", np.arange(1, len(table) + 1))
    for number, region in enumerate(regions):
        own = table[table["image"] == number]
        ranks = np.zeros(len(own) + 1, dtype=np.int32)
        ranks[own["_region"].astype(int)] = own["rank"]
        regions[number] = ranks[region]
    return Suspects(table.drop(columns="_region"), regions)


def correct(
    labels: Sequence[NDArray],
    suspects: Suspects,
    accepted: Sequence[int],
    *,
    numbered: bool = False,
) -> list[NDArray]:
    """The labels with the suggested label in the regions of the accepted suspects.

    Parameters
    ----------
    labels : sequence of arrays of int
    suspects : Suspects
    accepted : sequence of int
        Ranks.
    numbered : bool
        Whether the labels number objects, so that they were trained on ``as_mask``: a missed object
        gets a new number, and a wrong outline that of the object it borders on.

    Returns
    -------
    list of arrays
        New ones, of the labels' types, or of larger ones where new numbers ask for it.

    Raises
    ------
    KeyError
        If there is no suspect of such a rank.
    """
    table = suspects.table.set_index("rank").loc[list(accepted)]
    corrected = [np.array(label) for label in labels]
    numbers = _numbers_of(corrected) if numbered else []
    for rank, row in table.iterrows():
        image, value = row["image"], row["suggested"]
        where = suspects.regions[image] == rank
        if value and len(numbers) == 1:  # a mask, whatever its value
            value = numbers[0]
        elif value and numbers:
            value = _neighbour(corrected[image], where, row["kind"])
            if value is None:
                value = numbers[-1] + 1
                numbers.append(value)
                dtype = np.result_type(corrected[image], np.min_scalar_type(value))
                corrected[image] = corrected[image].astype(dtype)
        corrected[image][where] = value
    return corrected


def _numbers_of(labels):
    """Sorted values of the objects."""
    found = [np.unique(label) for label in labels]
    return sorted({int(value) for values in found for value in values if value > 0})


def _neighbour(label, where, kind):
    """The number of the object that a wrong outline borders on most; None if it is none."""
    from scipy.ndimage import binary_dilation

    if kind != "wrong outline":
        return None
    around = label[binary_dilation(where) & ~where]
    values, counts = np.unique(around[around > 0], return_counts=True)
    return int(values[counts.argmax()]) if len(values) else None


def _neighbours(ndim, spatial_dims):
    """What counts as connected: all neighbours, along the last axes only."""
    shape = (1,) * (ndim - spatial_dims) + (3,) * spatial_dims
    return np.pad(np.ones(shape, bool), [((3 - n) // 2,) * 2 for n in shape])


def _axes(labels, spatial_dims):
    ndim = max((np.ndim(label) for label in labels), default=2)
    names = "zyx"[-spatial_dims:]
    return [f"axis_{i}" for i in range(ndim - spatial_dims)] + list(names)


def _of_one(probability, labels, neighbours):
    """Rows and numbered regions of one image."""
    from scipy import ndimage as ndi

    predicted, counted = probability.argmax(axis=0), labels >= 0
    wrong = 1 - np.take_along_axis(probability, np.maximum(labels, 0)[None], axis=0)[0]
    whole = np.zeros(labels.shape, np.int8)  # 1 object missed, 2 object extra
    for index in range(1, len(probability)):
        of_network, of_labels = (predicted == index) & counted, labels == index
        whole[_alone(of_network, labels > 0, neighbours)] = 1
        whole[_alone(of_labels, predicted > 0, neighbours)] = 2
    differs = (predicted != labels) & counted
    kinds = enumerate(("wrong outline", "missed object", "extra object"))
    regions, rows, classes = np.zeros(labels.shape, np.int32), [], range(len(probability))
    for (kind, name), true, given in product(kinds, classes, classes):
        here = differs & (whole == kind) & (predicted == true) & (labels == given)
        if here.any():
            numbered, number = ndi.label(here, neighbours)
            first = len(rows)
            for row in _measured(numbered, number, wrong, _depth(here, neighbours)):
                rows.append({"kind": name, "label": given, "suggested": true, **row})
                rows[-1]["_region"] = len(rows)
            regions[here] = numbered[here] + first
    return rows, regions


def _measured(numbered, number, wrong, depth):
    """Centre, area, confidence and score of each region."""
    from scipy import ndimage as ndi

    ids = np.arange(1, number + 1)
    centres = np.round(ndi.center_of_mass(numbered > 0, numbered, ids), 1)
    areas = np.bincount(numbered.ravel())[1:]
    confidence = np.round(ndi.mean(wrong, numbered, ids), 3)
    scores = ndi.sum_labels((wrong - 0.5) * depth, numbered, ids)
    for centre, area, certainty, score in zip(centres, areas, confidence, scores):
        yield {
            "centre": centre,
            "area": int(area),
            "confidence": float(certainty),
            "score": float(score),
        }


def _alone(objects, others, neighbours):
    """Pixels of the objects that hardly overlap with the others."""
    from scipy import ndimage as ndi

    numbered, number = ndi.label(objects, neighbours)
    overlap = ndi.mean(others, numbered, np.arange(number + 1))
    alone = np.asarray(overlap) < _LEAST_OVERLAP
    alone[0] = False
    return alone[numbered]


def _depth(mask, neighbours):
    """Distance of each pixel to what is outside its region, along the spatial axes."""
    from scipy import ndimage as ndi

    spatial = np.ptp(np.nonzero(neighbours), 1) > 0
    sampling = np.where(spatial, 1.0, 1e6)
    padded = np.pad(mask, [(int(s), int(s)) for s in spatial])
    depth = ndi.distance_transform_edt(padded, sampling=sampling)
    return depth[tuple(slice(int(s), -1 if s else None) for s in spatial)]
