"""Arrays computed block by block into an OME-Zarr image, here or on a dask.distributed cluster.

The blocks are written by the workers, which need to reach the files, and never pass through the
process that asked for them. What was written before a stop or a failure is kept; the image stays
marked as partial (`ome_zarr.ZarrImage.complete`).
"""

import threading
import time
from collections.abc import Generator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from napari_metastructure.jobs.events import Note, Progress, Result
from napari_metastructure.jobs.job import Job

__all__ = ["ONE_AT_A_TIME", "connect", "for_each_block", "store", "watched"]

_SECONDS_BETWEEN_LOOKS = 0.1
_SECONDS_TO_CONNECT = 20
_SECONDS_TO_WONDER = 10.0  # without a block that is done: whether there is a worker at all
_PACKAGE = "napari-metastructure"
ONE_AT_A_TIME = threading.Lock()
"""Held on a worker while a network trains or predicts: one uses all of its cores by itself."""


def connect(scheduler: str, *, for_all: bool = True) -> Any:
    """A client of a dask.distributed scheduler: the one place where a connection is made.

    Parameters
    ----------
    scheduler : str
        Address, such as ``tcp://host:8786``, or the path of a scheduler file (``.json``).
    for_all : bool
        All dask work of this process is done there until the client is closed.

    Returns
    -------
    distributed.Client

    Raises
    ------
    ImportError, ConnectionError
        If the extra ``[distributed]`` is not installed, if within 20 s no scheduler answers or it
        has no worker, or if a worker lacks this package or has another version of it.
    """
    try:
        from distributed import Client
    except ImportError:
        raise ImportError(
            "A scheduler needs dask.distributed: pip install 'napari-metastructure[distributed]'."
        ) from None
    is_file = str(scheduler).endswith(".json")
    if is_file and not Path(scheduler).expanduser().is_file():  # dask would wait for it
        raise ConnectionError(
            f"There is no scheduler file {scheduler}; give the one that "
            "'dask scheduler --scheduler-file' writes, or an address."
        )
    where = {"scheduler_file": scheduler} if is_file else {"address": scheduler}
    try:
        client = Client(**where, timeout=_SECONDS_TO_CONNECT, set_as_default=for_all)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ConnectionError(f"There is no dask scheduler at {scheduler} ({reason}).") from None
    try:
        _check_workers(client, scheduler)
    except ConnectionError:
        client.close()
        raise
    return client


def _check_workers(client, scheduler):
    """Raise one sentence if no worker is there, or one of them cannot do our work."""
    try:
        client.wait_for_workers(1, timeout=_SECONDS_TO_CONNECT)
    except TimeoutError:
        raise ConnectionError(
            f"The scheduler at {scheduler} has no worker; start some: dask worker {scheduler}."
        ) from None
    ours = version(_PACKAGE)
    # a function that workers without this package have too
    found = client.run(version, _PACKAGE, on_error="return")
    for worker, theirs in found.items():
        if isinstance(theirs, PackageNotFoundError):
            what = f"lacks {_PACKAGE}"
        elif theirs != ours:
            what = f"has {_PACKAGE} {theirs}, this process {ours}"
        else:
            continue
        raise ConnectionError(f"The worker {worker} {what}; install {_PACKAGE} {ours} there.")


def store(array: Any, out: Any, client: Any = None, *, activity: str = "computing") -> Job:
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
        blocks = for_each_block(_write_block, array, out, stop)
        yield from watched(job, blocks, out, client, activity, stop)

    return Job(work)


# --------------------------------------------------------------------------------- blocks


def for_each_block(function: Any, array: Any, *arguments: Any) -> Any:
    """A dask array of one flag per block of an array, to be computed for what it does.

    Parameters
    ----------
    function : callable
        ``function(block, start, *arguments)`` gets each block and the index of its first pixel.
    array : dask array
    *arguments
        Handed on; for a cluster they have to be picklable.

    Returns
    -------
    dask array of bool
    """
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


# ------------------------------------------------------------------------------- watching


def watched(
    job: Any, blocks: Any, out: Any, client: Any, activity: Any, stop: Any
) -> Generator[Any, Any, Any]:
    """Compute the blocks of `for_each_block` and watch them.

    Parameters
    ----------
    job : Job
        Asked whether it is to stop.
    blocks : dask array
    out : ZarrImage
        What the blocks are written to; marked as complete at the end.
    client : distributed.Client or None
        None: the threads of this process.
    activity : str
        For the progress bar.
    stop : threading.Event or None
        Without a client: set when the blocks that have not begun are to be left.

    Yields
    ------
    Progress, Note or Result
        The result comes last, with `out`. A note tells when the last worker is lost.
    """
    run = _here(blocks, stop) if client is None else _there(blocks, client)
    total = blocks.npartitions
    done = 0
    try:
        for found in run:
            if isinstance(found, Note):
                yield found
                continue
            done = found
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
    """Compute on a cluster; yields how many blocks are done, and a note if no worker is left."""
    from distributed import futures_of

    persisted = client.persist(blocks)
    pending, total = set(futures_of(persisted)), blocks.npartitions
    quiet_since, is_told = time.monotonic(), False
    try:
        yield 0
        while pending:
            finished = {future for future in pending if future.status != "pending"}
            for future in finished:
                if future.status == "error":
                    raise future.exception()
                if future.status != "finished":
                    raise ConnectionError(
                        "The connection to the dask scheduler was lost, or its work was cancelled"
                    )
            pending -= finished
            if client.status not in ("running", "connecting"):
                raise ConnectionError("The connection to the dask scheduler was lost")
            yield total - len(pending)
            if finished:
                quiet_since, is_told = time.monotonic(), False
            elif not is_told and time.monotonic() - quiet_since > _SECONDS_TO_WONDER:
                quiet_since, is_told = time.monotonic(), not client.nthreads()
                if is_told:
                    yield Note(
                        "The dask scheduler has lost its last worker. Start a worker, and the "
                        "work goes on; or stop it, and keep what is done."
                    )
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
