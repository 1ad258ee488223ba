"""Segment images with few labels or none: the entry to the robust and the published mode."""

import time
from datetime import datetime
from functools import partial
from typing import Any

import numpy as np

from napari_metastructure.arrays.axes import without_channels
from napari_metastructure.arrays.blocks import as_list
from napari_metastructure.arrays.chunks import ChunkedArray
from napari_metastructure.few_labels.configs import WITHOUT_STROKES, SegmentConfig
from napari_metastructure.few_labels.paper import Paper
from napari_metastructure.few_labels.robust import Robust
from napari_metastructure.few_labels.taught import Taught
from napari_metastructure.jobs.devices import pick_device, release_memory
from napari_metastructure.jobs.events import Done, Note, Progress, Result
from napari_metastructure.jobs.generators import in_background
from napari_metastructure.jobs.job import Job
from napari_metastructure.jobs.versions import versions
from napari_metastructure.labels.strokes import check_strokes, digest_under, pack_strokes
from napari_metastructure.learning.items import Items
from napari_metastructure.learning.networks import load_networks
from napari_metastructure.learning.resume import digests, resuming
from napari_metastructure.parameters import with_fields_of

__all__ = ["SegmentConfig", "segment"]

_MOST_TRAINED = 2**25  # pixels, of images larger than memory
_MOST_IN_MEMORY = 2**28
_STEPS_WITH_STROKES = 250  # at least, unless the user says otherwise


@with_fields_of(SegmentConfig)
def segment(
    images: Any,
    config: Any = None,
    *,
    strokes: Any = None,
    labels: Any = None,
    model: Any = None,
    out: Any = None,
    checkpoint: Any = None,
    fresh: bool = False,
    **params: Any,
) -> Job:
    """Segment images with a few strokes of a brush, or without annotation.

    Parameters
    ----------
    images : array or sequence of arrays
        Planes (y, x) or stacks (..., y, x) of any real type; together they are one image set, for
        which one network is trained. With ``channel_axis`` they have one axis more, for
        channels: the network sees all of them, start masks are made from the mean of the
        normalised channels or from ``start_channel``.
    config : SegmentConfig or dict, optional
    strokes : array or sequence of arrays, optional
        Integers of the images' shapes without channels: 0 not annotated, 1 background, 2 object,
        3 and more further classes, on any planes of any images. They teach a pixel classifier
        (`StrokeClassifier`), and its labels teach the network. The result is that of the network,
        unless the classifier is clearly better on held-out strokes. Masks hold the stroke's value
        minus 1.
    labels : array or sequence of arrays, optional
        Integers of the images' shapes, for ``start="labels"``: a first segmentation, 0 is
        background.
    model : SegmentationModel, optional
        With strokes: an earlier result's model, from which the training goes on.
    out : array or sequence of arrays, optional
        Where to write the masks, one per image: `ome_zarr.create_image`, numpy.memmap or whatever
        else can be assigned to by index. Then the images may be larger than memory: the network
        is trained on evenly spread planes (parts, of very large ones) of about 2**25 pixels in all,
        and then applied to all planes, whose masks are written as they come.
    checkpoint : path, optional
        A ``.safetensors`` file in which the training is saved every 20 s and when it stops. The
        same call resumes it, on a CPU with the same result as without the interruption. What comes
        before and after the training is done again.
    fresh : bool
        Start anew whatever the checkpoint holds; it is replaced.
    **params
        Single parameters, such as ``polarity="dark"``, in place of the config's.

    Returns
    -------
    Job
        An iterator of `Progress`, `Step`, `Preview`, `Round` and at last `Done` with the model,
        ``masks`` (uint8, 0 and 1, with strokes their value minus 1) and ``probabilities`` (float32,
        of more than two classes with these along a first axis), one of each per image; with
        `out` that are the masks, and there are no probabilities. Stopped while it reads the images,
        it ends with a `Result` of None.

    Raises
    ------
    ValueError, TypeError
        If a parameter or the data do not fit, with one sentence that says why.

    Notes
    -----
    ``mode="paper"`` is iterative ground truth training as published (Luo et al., AAAI 2022, arXiv
    2103.11594): labels start black; every epoch the network's output picks, by determinant-based
    mutual information, one of its own thresholded masks, whose jittered, thinned skeleton is
    the next label.

    Examples
    --------
    >>> for event in segment(stack, polarity="bright"):  # doctest: +SKIP
    ...     print(event)
    """
    config = SegmentConfig.of(config, **params)
    if strokes is not None:
        _check_strokes(images, strokes, labels, config)
        if "min_steps" not in config.model_fields_set:
            config = SegmentConfig.of(config, min_steps=_STEPS_WITH_STROKES)
    elif model is not None:
        raise ValueError("Continuing from a model needs strokes; give strokes, too.")
    elif config.start == "labels" and labels is None:
        raise ValueError("start='labels' needs labels; give one array per image.")
    elif labels is not None and config.start != "labels":
        raise ValueError("labels are used only with start='labels'; set it, or give strokes.")

    def work(job):
        data = partial(_digests, images, strokes, labels, model)
        resume = yield from resuming(job, checkpoint, "segment", config, data, fresh)
        yield from _segmenting(job, images, strokes, labels, model, out, config, resume)

    return Job(work)


def _digests(images, strokes, labels, model):
    """What tells the data of one segmentation from those of another."""
    weights = (
        None
        if model is None
        else [weight.cpu().numpy() for weight in model.network.state_dict().values()]
    )
    data = {"images": images, "strokes": strokes, "labels": labels, "model": weights}
    return digests(data)


def _check_strokes(images, strokes, labels, config):
    """Raise one sentence if strokes cannot be used."""
    if labels is not None:
        raise ValueError("Give either strokes or labels, not both.")
    if config.mode != "robust":
        raise ValueError("Strokes are used with mode='robust'; the published mode has none.")
    idle = list(config.model_dump(include=set(WITHOUT_STROKES), exclude_defaults=True))
    if idle:
        raise ValueError(
            "With strokes the network learns the label of a classifier, so there is no use for "
            f"{', '.join(idle)}; leave {'it' if len(idle) == 1 else 'them'} out."
        )
    images, strokes = as_list(images), as_list(strokes)
    check_strokes(strokes)
    if len(images) != len(strokes):
        raise ValueError(
            f"There are {len(images)} images but {len(strokes)} arrays of strokes; give one per "
            "image."
        )
    for number, (image, stroke) in enumerate(zip(images, strokes)):
        shape = without_channels(image.shape, config.channel_axis)
        if tuple(stroke.shape) != shape:
            raise ValueError(
                f"The strokes of image {number} have shape {tuple(stroke.shape)}, but the image "
                f"has {shape}{'' if config.channel_axis is None else ' without its channels'}."
            )


def _segmenting(job, images, strokes, labels, model, out, config, resume):
    started, clock = datetime.now(), time.perf_counter()
    device = pick_device(config.device)
    seed = np.random.SeedSequence(config.seed).entropy if config.seed is None else config.seed
    seed = seed if resume is None else resume.seed_or(seed)
    arrays = as_list(images)
    labels = strokes if strokes is not None else labels

    def prepared():
        load_networks(optimisers=True)
        every = Items.of(arrays, labels, config.spatial_dims, channel_axis=config.channel_axis)
        outs = _checked(out, every, arrays, config)
        most = None if outs is None else _MOST_TRAINED
        items = every.in_memory(most, unlabelled=strokes is not None)
        if strokes is not None:
            known = _known_strokes(arrays, as_list(strokes), config)
            return every, outs, Taught(job, items, config, device, seed, model), known
        kinds = {"paper": Paper, "robust": Robust}
        return every, outs, kinds[config.mode](job, items, config, device, seed), {}

    found = yield from in_background(job, Progress("reading the images", 0, 1), prepared)
    if found is None:
        yield Note("Stopped while the images were read; nothing was computed.")
        yield Result(None, stopped=True)
        return
    every, outs, run, known = found
    del found
    run.results = _Results(run, arrays if outs is None else None, config)
    if outs is not None:
        run.unpredicted_are = "no masks are written"
    run.resume, run.started = resume, clock
    try:
        if run.varied:
            yield from run.train()
        else:
            run.facts["note"] = (
                "all pixels of every plane are equal, so there is nothing to segment"
            )
        run.model.flips = config.mode == "robust"
        yield from run.predict()
        yield from run.decide()
        if outs is not None:
            run.results = None
            yield from run.write_masks(every, outs)
        record = {
            "operation": "segment",
            "config": {**config.model_dump(mode="json"), "seed": seed},
            "images": [list(array.shape) for array in arrays[:1]] + [len(every)],
            **run.facts,
            "steps": len(run.history["loss"]),
            "threshold": run.model.threshold,
            "threshold_source": run.model.threshold_source,
            "device": str(device),
            "started": started.isoformat(timespec="seconds"),
            "seconds": round(time.perf_counter() - run.started, 1),
            "versions": versions(),
        }
        run.model.record = record
        if "note" in record:
            yield Note(f"{record['note'][:1].upper()}{record['note'][1:]}.")
        run.model.attached |= known
        run.model.network.eval()
        for one in outs or ():
            if hasattr(one, "finish"):
                one.note(record) if job.stopping else one.finish(record)
        yield Done(
            run.model,
            run.history,
            record,
            stopped=job.stopping,
            masks=run.results.whole_masks if outs is None else outs,
            probabilities=run.results.whole_probabilities if outs is None else None,
        )
    finally:
        del run
        release_memory(device)


def _checked(out, items, arrays, config):
    """One array per image to write on; None if masks are to stay in memory."""
    shapes = [without_channels(array.shape, config.channel_axis) for array in arrays]
    if out is None:
        pixels = sum(np.prod(shape, dtype=float) for shape in shapes)
        if pixels > _MOST_IN_MEMORY and any(isinstance(i, ChunkedArray) for i in items.images):
            raise ValueError(
                f"The images hold {pixels / 1e9:.1f} billion pixels, too many for masks in memory; "
                "give out=, such as ome_zarr.create_image makes, to write them to."
            )
        return None
    outs = [out] if hasattr(out, "shape") else list(out)
    if [tuple(one.shape) for one in outs] != shapes:
        raise ValueError(f"out should hold one array per image, of the shapes {shapes}.")
    return outs


def _known_strokes(arrays, strokes, config):
    """What a model keeps of strokes, by name: them, and what tells the images under them."""
    known = pack_strokes(strokes)
    for number, pair in enumerate(zip(arrays, strokes)):
        digest = digest_under(*pair, config.channel_axis, config.spatial_dims)
        known[f"strokes.{number}.digest"] = digest
    return known


class _Results:
    """Masks and probabilities: whole arrays, and their planes (or volumes) to put results in.

    What nothing is put in stays 0 and takes no memory.

    Parameters
    ----------
    run : Mode
    arrays : sequence of arrays or None
        Images whose shapes the whole ones have; None: one array for each plane.
    config : SegmentConfig
    """

    def __init__(self, run, arrays, config):
        axis, dims = config.channel_axis, config.spatial_dims
        if arrays is None:
            arrays, axis = run.pictures, None
        shapes = [without_channels(array.shape, axis) for array in arrays]
        classes = len(run.model.classes)
        leading = (classes,) * (classes > 2)
        self.whole_masks, self.masks = _zeros(shapes, np.uint8, dims)
        self.whole_probabilities, self.probabilities = _zeros(shapes, np.float32, dims, leading)


def _zeros(shapes, dtype, spatial_dims, leading=()):
    """Arrays of these shapes, a class axis in front or none, and views of all their planes."""
    wholes = [np.zeros((*leading, *shape), dtype) for shape in shapes]
    front = (slice(None),) * len(leading)
    return wholes, [
        whole[(*front, *index, ...)]
        for whole, shape in zip(wholes, shapes)
        for index in np.ndindex(*shape[: len(shape) - spatial_dims])
    ]
