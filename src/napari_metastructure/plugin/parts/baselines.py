"""Masks of simple filters, to compare a segmentation with."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from napari.viewer import Viewer

from napari_metastructure.jobs.events import Progress, Result
from napari_metastructure.jobs.job import Job
from napari_metastructure.plugin.layers import RECORD

__all__ = ["baselines", "show_baselines"]

_BASELINES = ("otsu", "li", "triangle", "sato")


def baselines(source: Any, polarity: str) -> Job:
    """A `Job` that makes the mask of each filter for all planes of a `Source`."""
    layout, data = source.layout, source.canonical
    if layout.input_axis is not None:
        data = data.mean(axis=-layout.spatial_dims - 1, dtype=np.float32)
    return Job(lambda job: _filtering(job, data, polarity, layout.spatial_dims))


def show_baselines(viewer: Viewer, source: Any, masks: Any) -> Iterator[None]:
    """Add each mask as a hidden layer; a step for each."""
    for kind, mask in masks.items():
        record = {"operation": "filter", "filter": kind, "applied_to": source.name}
        viewer.add_labels(
            source.shaped(mask),
            name=f"{source.name} {kind}",
            visible=False,
            metadata={RECORD: record},
            **source.place(),
        )
        yield


def _filtering(job, data, polarity, spatial_dims):
    """The mask of each baseline filter for all planes."""
    yield Progress("starting", 0, 1)
    from napari_metastructure.arrays.blocks import planes
    from napari_metastructure.few_labels.filters import filter_mask
    from napari_metastructure.few_labels.polarity import polarity as of_images

    parts = planes(np.asarray(data), spatial_dims)
    polarity = of_images(parts) if polarity == "auto" else polarity
    masks = {}
    total = len(_BASELINES) * len(parts)
    for kind in _BASELINES:
        filtered = []
        for part in parts:
            filtered.append(filter_mask(part, kind, polarity))
            yield Progress(kind, len(masks) * len(parts) + len(filtered), total)
            if job.stopping:
                yield Result(None, stopped=True)
                return
        masks[kind] = np.stack(filtered).reshape(data.shape)
    yield Result(masks)
