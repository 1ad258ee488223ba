"""Arrays computed block by block into an OME-Zarr image, here or on a dask.distributed cluster.

The blocks are written by the workers, which need to reach the files, and never pass through the
process that asked for them. What was written before a stop or a failure is kept; the image stays
marked as partial (`ome_zarr.ZarrImage.complete`).
"""

import hashlib
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

from napari_metastructure.arrays.blocks import as_array, is_lazy
from napari_metastructure.jobs.events import Progress, Result
from napari_metastructure.jobs.job import Job

__all__ = ["connect", "predict", "store"]

_SECONDS_BETWEEN_LOOKS = 0.1
_MODELS = {}  # on a worker: the models that it was sent
_ONE_AT_A_TIME = threading.Lock()  # a network uses all cores of a worker by itself


def connect(scheduler):
    """A client of a dask.distributed scheduler, in use for all dask work until it is closed.

    Parameters
    ----------
    scheduler : str
        Address, such as ``tcp://host:8786``, or the path of a scheduler file (``.json``).

    Raises
    ------
    ImportError, ConnectionError
        If the extra ``[distributed]`` is not installed, or no scheduler answers.
    """
    try:
        from distributed import Client
    except ImportError:
        raise ImportError(
            "A scheduler needs dask.distributed: pip install 'napari-metastructure[distributed]'."
        ) from None
    is_file = str(scheduler).endswith(".json")
    try:
        if is_file:
            return Client(scheduler_file=scheduler, timeout=20)
        return Client(scheduler, timeout=20)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ConnectionError(f"There is no dask scheduler at {scheduler} ({reason}).") from None


def store(array, out, client=None, *, activity="computing"):
    """Compute a dask array into an OME-Zarr image, as a job.

    Parameters
    ----------
    array : dask array
        As `noise.corrupt` and `density.observed` make of dask or Zarr labels.
    out : ZarrImage
        A new one of the array's shape, from `ome_zarr.create_image` with an absolute path. It is
        marked as complete at the end.
    client : distributed.Client, optional
        Of the cluster that does the work, see `connect`; by default the threads of this process.
    activity : str
        For the progress bar.

    Returns
    -------
    Job
        An iterator of `Progress`, and at last a `Result` with `out`.

    Raises
    ------
    RuntimeError
        If the scheduler goes away or a block fails; `out` keeps what was written.
    """
    if tuple(array.shape) != tuple(out.shape):
        raise ValueError(f"The array has shape {array.shape}, but out has {tuple(out.shape)}.")
    array = array.rechunk(out.chunks)

    def work(job):
        stop = threading.Event() if client is None else None
        blocks = _for_each_block(_write_block, array, out, stop)
        yield from _watched(job, blocks, out, client, activity, stop)

    return Job(work)


def predict(model, image, out, client, *, labels=False, **tiling):
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
        blocks = _for_each_block(_predict_block, image, lead, out, key, labels, tiling)
        try:
            yield from _watched(job, blocks, out, client, "predicting", None)
        finally:
            if client.status == "running":
                client.unregister_worker_plugin(plugin)

    return Job(work)


# --------------------------------------------------------------------------------- blocks


def _for_each_block(function, array, *arguments):
    """A dask array of one flag per block of `array`, made by ``function(block, start, *...)``."""
    import dask.array as da

    begins = [np.cumsum([0, *sizes]) for sizes in array.chunks]

    def on_block(block, block_info=None):
        where = block_info[0]["chunk-location"]
        start = tuple(int(edges[i]) for edges, i in zip(begins, where))
        function(block, start, *arguments)
        return np.ones((1,) * block.ndim, bool)

    ones = tuple((1,) * len(sizes) for sizes in array.chunks)
    return da.map_blocks(on_block, array, dtype=bool, chunks=ones, meta=np.empty((0,) * array.ndim))


def _write_block(block, start, out, stop):
    if stop is not None and stop.is_set():
        raise _Stopped
    out[tuple(slice(a, a + n) for a, n in zip(start, block.shape))] = block


class _Stopped(Exception):
    """What ends the blocks that have not begun."""


def _predict_block(block, start, lead, out, key, labels, tiling):
    """Predict one plane (or volume), channels first, and write it; on a worker."""
    from napari_metastructure.learning.model import run_out

    model = _model(key)
    with _ONE_AT_A_TIME:
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
            from napari_metastructure.jobs import cluster  # the worker's own, not a copy

            cluster._MODELS.setdefault(key, data)

    return SendModel()


def _model(key):
    """The model that this worker was sent, made from its bytes once."""
    with _ONE_AT_A_TIME:
        if isinstance(_MODELS[key], bytes):
            from napari_metastructure.learning.model import load_model

            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "model.safetensors"
                path.write_bytes(_MODELS[key])
                _MODELS[key] = load_model(path)
        return _MODELS[key]


# ------------------------------------------------------------------------------- watching


def _watched(job, blocks, out, client, activity, stop):
    """Run the blocks and watch them; generator of `Progress` and a `Result`."""
    run = _here(blocks, stop) if client is None else _there(blocks, client)
    total = blocks.npartitions
    done = 0
    try:
        for done in run:
            yield Progress(activity, done, total)
            if job.stopping:
                break
    except Exception as error:
        _note(out, f"failed after {done} of {total} blocks: {error}")
        raise _as_sentence(error, done, total, out) from error
    finally:
        run.close()
    if done < total:
        _note(out, f"stopped after {done} of {total} blocks")
        yield Result(out, stopped=True)
        return
    out.finish(out.record)
    yield Result(out)


def _note(out, reason):
    with suppress(OSError):  # of a full disk: the image is marked as partial from its beginning
        out.note({**out.record, "stopped": reason})


def _as_sentence(error, done, total, out):
    kept = f"{done} of {total} blocks are in {out.path}, which is marked as partial."
    reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    return RuntimeError(f"{reason}; {kept}")


def _there(blocks, client):
    """Compute on a cluster; yields how many blocks are done."""
    from distributed import futures_of

    persisted = client.persist(blocks)
    pending, total = set(futures_of(persisted)), blocks.npartitions
    try:
        yield 0
        while pending:
            finished = {future for future in pending if future.status != "pending"}
            for future in finished:
                if future.status == "error":
                    raise future.exception()
                if future.status != "finished":
                    raise ConnectionError("The dask scheduler went away, or its work was cancelled")
            pending -= finished
            if client.status not in ("running", "connecting"):
                raise ConnectionError("The dask scheduler went away")
            yield total - len(pending)
            time.sleep(0 if finished else _SECONDS_BETWEEN_LOOKS)
    finally:
        if pending and client.status == "running":
            client.cancel(list(pending), force=True)


def _here(blocks, stop):
    """Compute with the threads of this process; yields how many blocks are done."""
    from dask.callbacks import Callback

    done, errors, names = [0], [], {blocks.name}

    def count(key, *_):
        done[0] += isinstance(key, tuple) and key[0] in names

    def compute():
        try:
            with Callback(posttask=count):
                blocks.compute(scheduler="threads")
        except _Stopped:
            pass
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=compute, daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            yield done[0]
            thread.join(_SECONDS_BETWEEN_LOOKS)
        if errors:
            raise errors[0]
        yield done[0]
    finally:
        stop.set()
        thread.join()
