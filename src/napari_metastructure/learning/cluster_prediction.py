"""A model applied on a dask.distributed cluster, plane by plane, into an OME-Zarr image."""

import hashlib
import tempfile
from pathlib import Path
from typing import Any

from napari_metastructure.arrays.blocks import as_array, is_lazy
from napari_metastructure.jobs.cluster import ONE_AT_A_TIME, for_each_block, watched
from napari_metastructure.jobs.generators import run_out
from napari_metastructure.jobs.job import Job
from napari_metastructure.learning.loading import load_model

__all__ = ["predict"]

_MODELS = {}  # on a worker: the models that it was sent


def predict(
    model: Any, image: Any, out: Any, client: Any, *, labels: bool = False, **tiling: Any
) -> Job:
    """Apply a model on the workers of a cluster, plane by plane (or volume by volume).

    The model is sent to each worker once, also to those that join later.

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
    inner = model.spatial_dims + (model.channel_axis is not None)
    lead = image.ndim - inner
    shape = image.shape[:lead] + image.shape[image.ndim - model.spatial_dims :]
    chunks = (1,) * lead + image.shape[lead:]
    image = image.rechunk(chunks) if is_lazy(image) else da.from_array(image, chunks)
    if len(model.classes) > 2 and not labels:
        shape = (len(model.classes), *shape)
    if tuple(out.shape) != shape:
        raise ValueError(f"The result has shape {shape}, but out has {tuple(out.shape)}.")
    if any(side > 1 for side in out.chunks[out.ndim - model.spatial_dims - lead :][:lead]):
        raise ValueError(f"A chunk of out should hold one plane, not {out.chunks}.")

    def work(job):
        data = _as_bytes(model)
        key = hashlib.sha256(data).hexdigest()
        plugin = f"napari-metastructure {key}"
        client.register_plugin(_model_sender(key, data), name=plugin)
        blocks = for_each_block(_predict_block, image, lead, out, key, labels, tiling)
        try:
            yield from watched(job, blocks, out, client, "predicting", None)
        finally:
            if client.status == "running":
                client.unregister_worker_plugin(plugin)

    return Job(work)


def _predict_block(block, start, lead, out, key, labels, tiling):
    """Predict one plane (or volume), channels first, and write it; on a worker."""
    model = _model(key)
    with ONE_AT_A_TIME:
        found = run_out(model.predicting_plane(block.reshape(block.shape[lead:]), **tiling))
    found = model.decide(found) if labels else found
    classes = (slice(None),) * (found.ndim - model.spatial_dims)
    out[(*classes, *start[:lead])] = found


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
