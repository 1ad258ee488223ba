"""A model applied on a dask.distributed cluster into an OME-Zarr image.

Each task is a plane, or rows of a large one, which its worker reads chunk by chunk.
"""

import hashlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from napari_metastructure.arrays.blocks import as_array, is_lazy, round_up
from napari_metastructure.arrays.chunks import in_chunks
from napari_metastructure.jobs.cluster import ONE_AT_A_TIME, watched
from napari_metastructure.jobs.generators import run_out
from napari_metastructure.jobs.job import Job
from napari_metastructure.learning.loading import load_model

__all__ = ["predict"]

_MODELS = {}  # on a worker: the models that it was sent
_MOST_PIXELS = 2**25  # of a task


def predict(
    model: Any, image: Any, out: Any, client: Any, *, labels: bool = False, **tiling: Any
) -> Job:
    """Apply a model on the workers of a cluster, plane by plane (or volume by volume).

    The model is sent to each worker once, also to those that join later. Planes of more than 2**25
    pixels are split into rows that several workers predict; none has to hold the whole plane,
    unless it is a single chunk.

    Parameters
    ----------
    model : SegmentationModel
    image : array, numpy, dask or zarr
        As for `SegmentationModel.predict`; workers read dask and Zarr arrays themselves.
    out : ZarrImage
        A new one, of the image's shape, or with a class axis in front for the probabilities of
        more than two classes.
    client : distributed.Client
        From `connect`, or that of a ``LocalCluster``.
    labels : bool
        Write labels in place of probabilities.
    **tiling
        ``tile, overlap, batch_size`` of `prediction.predict_tiles`.

    Returns
    -------
    Job
        As that of `store`.
    """
    import dask.array as da

    image = model.channels_first(as_array(image))
    dims = model.spatial_dims
    lead = image.ndim - dims - (model.channel_axis is not None)
    shape = image.shape[:lead] + image.shape[-dims:]
    if not is_lazy(image):
        image = da.from_array(image, (1,) * lead + image.shape[lead:])
    if len(model.classes) > 2 and not labels:
        shape = (len(model.classes), *shape)
    if tuple(out.shape) != shape:
        raise ValueError(f"The result has shape {shape}, but out has {tuple(out.shape)}.")
    if any(side > 1 for side in out.chunks[out.ndim - dims - lead :][:lead]):
        raise ValueError(f"A chunk of out should hold one plane, not {out.chunks}.")

    def work(job):
        data = _as_bytes(model)
        key = hashlib.sha256(data).hexdigest()
        plugin = f"napari-metastructure {key}"
        client.register_plugin(_model_sender(key, data), name=plugin)
        tasks = _tasks(image, lead, _parts(shape[-dims:], out.chunks[-dims]))
        blocks = _flags(tasks, out, key, labels, tiling)
        try:
            yield from watched(job, blocks, out, client, "predicting", None)
        finally:
            if client.status == "running":
                client.unregister_worker_plugin(plugin)

    return Job(work)


class _Plane:
    """A plane that is not read yet: dask takes it for a value, and so leaves it to its worker."""

    def __init__(self, lazy):
        self.lazy = lazy


def _parts(sides, rows_of_chunk):
    """(first, last) rows of the tasks of a plane; no chunk of the result has two writers."""
    most = max(_MOST_PIXELS // int(np.prod(sides[1:])), 1)
    rows = round_up(most, rows_of_chunk)
    return [(first, min(first + rows, sides[0])) for first in range(0, sides[0], rows)]


def _tasks(image, lead, parts):
    """The plane, its place and its rows, for each task."""
    import dask

    for index in np.ndindex(image.shape[:lead]):
        (plane,) = dask.optimize(image[index])  # without the graph of the other planes
        yield from ((_Plane(plane), index, rows) for rows in parts)


def _flags(tasks, *arguments):
    """A dask array of one flag per task, to be computed for what the tasks do."""
    import dask
    import dask.array as da

    predict_rows = dask.delayed(_predict_rows, pure=False)
    flags = [predict_rows(*task, *arguments) for task in tasks]
    return da.concatenate([da.from_delayed(flag, (1,), bool) for flag in flags])


def _predict_rows(plane, index, rows, out, key, labels, tiling):
    """Predict rows of a plane (or volume), channels first, and write them; on a worker."""
    model = _model(key)

    def write(start, block):
        found = model.decide(block) if labels else block
        classes = (slice(None),) * (found.ndim - model.spatial_dims)
        out[(*classes, *index, slice(start, start + found.shape[-model.spatial_dims]))] = found

    with ONE_AT_A_TIME:
        run_out(model.predicting_rows(in_chunks(plane.lazy), *rows, write, **tiling))
    return np.ones(1, bool)


def _as_bytes(model):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        model.save(path)
        return path.read_bytes()


def _model_sender(key, data):
    from distributed import WorkerPlugin

    class SendModel(WorkerPlugin):
        """Leaves the model with each worker, present and future."""

        def setup(self, worker):
            from napari_metastructure.learning import cluster_prediction  # the worker's own

            cluster_prediction._MODELS.setdefault(key, data)

    return SendModel()


def _model(key):
    """The model that this worker was sent, made from its bytes once."""
    with ONE_AT_A_TIME:
        if isinstance(_MODELS[key], bytes):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "model.safetensors"
                path.write_bytes(_MODELS[key])
                _MODELS[key] = load_model(path)
        return _MODELS[key]
