"""Tiled prediction: any image size, one batch of tiles at a time."""

import time
import warnings
from collections.abc import Callable, Generator, Sequence
from functools import reduce
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_metastructure.arrays.blocks import round_up
from napari_metastructure.jobs.devices import PeakMemory, autocast, is_out_of_memory, release_memory
from napari_metastructure.jobs.events import Memory, Note, Progress, Result
from napari_metastructure.jobs.job import Job

__all__ = ["MemoryBudget", "predict", "predict_tiles"]

_TILE = {2: 512, 3: 96}  # side in pixels, by spatial dimensions
_SLOPE = 16  # pixels over which neighbouring tiles are blended
_SMALLEST_TILE = 32
_SECONDS_BETWEEN_LOOKS = 2.0  # at the memory


def predict(
    model: Any,
    image: Any,
    *,
    region: Any = None,
    out: Any = None,
    labels: bool = False,
    **tiling: Any,
) -> Job:
    """Apply a model as a job that can be watched and stopped.

    Parameters
    ----------
    model : SegmentationModel
    image : array of real numbers
        As for `SegmentationModel.predict`.
    region : array of bool, optional
        Only where it holds is predicted; the rest is 0.
    out : array, optional
        Where to write the result, as for `SegmentationModel.predict`. An `ome_zarr.ZarrImage` is
        marked as complete, with a record, when all is written; else it stays partial.
    labels : bool
        The labels in place of the probabilities.
    **tiling
        ``tile, overlap, batch_size`` of `predict_tiles`.

    Returns
    -------
    Job
        An iterator of `Progress`, `Memory`, `Note` where memory ran out and smaller parts are
        taken, and at last a `Result` with the probabilities (or labels), or `out`. A job that was
        stopped early has no value but `out`.
    """

    def work(job):
        notes, memory, next_look = [], PeakMemory(model.device), 0.0
        options = {"budget": MemoryBudget(notes.append), **tiling}
        prediction = model.predicting(image, region=region, out=out, labels=labels, **options)
        shape = model.channels_first(image).shape[: -model.spatial_dims]
        total = int(np.prod(shape[:-1] if model.channel_axis is not None else shape))
        record = {"operation": "predict", "labels": labels, "model": model.record}
        try:
            if model.caution:
                yield Note(model.caution)
            while True:
                try:
                    plane, done, tiles = next(prediction)
                except StopIteration as end:
                    if hasattr(out, "finish"):
                        out.finish(record)
                    yield Result(end.value)
                    return
                yield Progress("predicting", plane * tiles + done, total * tiles)
                if job.stopping:
                    if hasattr(out, "note"):
                        out.note({**record, "stopped": f"after {plane} of {total}"})
                    yield Result(out, stopped=True)
                    return
                while notes:
                    yield Note(notes.pop(0))
                peak = memory.look()
                if time.perf_counter() >= next_look:
                    next_look = time.perf_counter() + _SECONDS_BETWEEN_LOOKS
                    yield Memory(peak, str(model.device))
        finally:
            prediction.close()
            release_memory(model.device)

    return Job(work)


def predict_tiles(
    network: Any,
    image: Any,
    *,
    multiple: Any,
    tile: Any = None,
    overlap: float = 0.25,
    batch_size: Any = None,
    flips: bool = False,
    write: Any = None,
    align: int = 1,
    budget: Any = None,
) -> Generator[Any, Any, Any]:
    """Predict one plane or volume tile by tile, blending tiles around the middle of their overlap.

    A generator, so that the caller can show progress and stop between batches of tiles. Rows of
    tiles (in volumes: along z) are done one after the other; with `write` no more than these
    are in memory.

    Parameters
    ----------
    network : torch.nn.Module
        In evaluation mode, on the device to use.
    image : array of float, (y, x) or (z, y, x), or with channels first
        Normalised pixels; all that is asked of it are its ``shape`` and boxes of pixels. Sides are
        filled up by reflection to a multiple of `multiple`.
    multiple : int or sequence of int, one per spatial axis
        What the network needs the sides of its input to be multiples of. Tiles begin at
        such multiples too, so that they see the same grid as the whole image would. One int
        stands for every axis of an image without channels.
    tile : int or sequence of int, optional
        Sides of a tile in pixels, rounded up to a multiple of `multiple`; by default 512
        in planes and 96 in volumes.
    overlap : float, [0, 1)
        Share of a tile's side that neighbours have in common, at least. Where half of it
        exceeds the reach of the network, the result is that of the whole image.
    batch_size : int, optional
        Tiles predicted at once; by default 1 on the CPU and 4 elsewhere.
    flips : bool
        Average over the mirror images of each tile (the last two axes).
    write : callable, optional
        ``write(start, slab)`` gets what is done, (classes, rows, [y,] x), and the first of its
        rows; in order, each row once, but from the first one again where memory ran out.
    align : int
        Slabs begin at multiples of so many rows.
    budget : MemoryBudget, optional
        What is known of the device's memory from the planes before.

    Returns
    -------
    array of float32, (classes, [z,] y, x)
        Probabilities: of the object for one channel, of each class for more. None with `write`.

    Yields
    ------
    tuple of int
        (tiles done, tiles in all).
    """
    device = next(network.parameters()).device
    dims = np.size(multiple) if np.ndim(multiple) else len(image.shape)
    multiple = np.broadcast_to(multiple, dims).tolist()
    tile = np.broadcast_to(_TILE[dims] if tile is None else tile, dims).tolist()
    batch_size = batch_size or (1 if device.type == "cpu" else 4)
    budget = budget or MemoryBudget()
    while True:
        tile = budget.tile or tile
        try:
            return (
                yield from _tiles(
                    network, image, multiple, tile, overlap, batch_size, flips, write, align, budget
                )
            )
        except _TileTooLarge:
            budget.shrink(tile, image.shape[-dims:], multiple, device)


class MemoryBudget:
    """What fits in the memory of a device at once; it shrinks each time memory runs out.

    Parameters
    ----------
    say : callable, optional
        Gets a sentence when it shrinks; by default that is a warning.

    Attributes
    ----------
    batch_size : int or None
        Most tiles at once, as far as is known.
    tile : list of int or None
        Sides of a tile, as far as it had to shrink.
    """

    def __init__(self, say: Callable = warnings.warn) -> None:
        self.say = say
        self.batch_size: int | None = None
        self.tile: Any = None

    def probabilities(
        self, network: Any, tiles: Any, flips: bool, device: Any, event: Any
    ) -> Generator[Any, Any, NDArray]:
        """Those of a batch of tiles, in as many parts as memory asks for; generator.

        It yields the event between two mirror images.
        """
        while True:
            most = min(self.batch_size or len(tiles), len(tiles))
            try:
                parts = []
                for part in tiles.split(most):
                    found = yield from _probabilities(network, part.to(device), flips, event)
                    parts.append(found.cpu().numpy())
                return parts[0] if len(parts) == 1 else np.concatenate(parts)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            release_memory(device)  # out of the except clause: the failed tensors are gone
            if most == 1:
                raise _TileTooLarge
            self.batch_size = most // 2
            self.say(
                f"{device} ran out of memory: {self.batch_size} tiles are now predicted at once."
            )

    def shrink(self, tile: Any, shape: Sequence[int], multiple: Any, device: Any) -> None:
        """Halve the sides of the tiles.

        Raises
        ------
        RuntimeError
            If they are as small as can be.
        """
        sides = [min(t, round_up(side, m)) for t, side, m in zip(tile, shape, multiple)]
        self.tile = [max(m, side // 2 // m * m) for side, m in zip(sides, multiple)]
        if self.tile == sides or max(self.tile) < _SMALLEST_TILE:
            raise RuntimeError(
                f"Even a single tile of {' x '.join(map(str, sides))} pixels does not fit in "
                f"the memory of {device}: close other programs or predict on another device."
            )
        size = " x ".join(map(str, self.tile))
        self.say(f"{device} ran out of memory: tiles are {size} pixels now.")


class _TileTooLarge(Exception):
    """A single tile does not fit in memory."""


def _tiles(network, image, multiple, tile, overlap, batch_size, flips, write, align, budget):
    """`predict_tiles` with tiles of a certain size."""
    from monai.data.utils import dense_patch_slices

    device, sides = next(network.parameters()).device, tuple(image.shape[-len(tile) :])
    padded = [round_up(side, m) for side, m in zip(sides, multiple)]
    tile_shape = [min(p, round_up(t, m)) for p, t, m in zip(padded, tile, multiple)]
    interval = [max(1, int(t * (1 - overlap)) // m) * m for t, m in zip(tile_shape, multiple)]
    places = dense_patch_slices(padded, tile_shape, interval)
    weights = _weights(places, padded, interval)
    inside = tuple(slice(side) for side in sides[1:])
    rows, begin = None, 0  # what is not written yet, and where it begins
    for start in range(0, len(places), batch_size):
        batch = places[start : start + batch_size]
        tiles = torch.from_numpy(np.stack([_cut(image, where) for where in batch]))
        probabilities = yield from budget.probabilities(
            network, tiles, flips, device, event=(start, len(places))
        )
        end = padded[0] if write is None else batch[-1][0].stop
        rows = _grown(rows, (probabilities.shape[1], end - begin, *padded[1:]))
        for where, probability in zip(batch, probabilities):
            weight = reduce(np.multiply.outer, [axis[at.start] for axis, at in zip(weights, where)])
            first, *others = where
            here = (slice(None), slice(first.start - begin, first.stop - begin), *others)
            probability *= weight
            rows[here] += probability
        following = places[start + batch_size : start + batch_size + 1]
        done = int(following[0][0].start) // align * align if following else sides[0]
        if write is not None and done > begin:
            write(begin, rows[(slice(None), slice(done - begin), *inside)])
            rows, begin = rows[:, done - begin :], done
        yield min(start + batch_size, len(places)), len(places)
    return rows[(slice(None), slice(sides[0]), *inside)] if write is None else None


def _cut(image, where):
    """One tile, (channels, *tile), filled up by reflection where the image ends."""
    sides = image.shape[-len(where) :]
    missing = [max(at.stop - side, 0) for at, side in zip(where, sides)]
    first = [max(min(at.start, s - m), 0) for at, s, m in zip(where, sides, missing)]
    tile = image[(..., *(slice(a, at.stop) for a, at in zip(first, where)))]
    tile = tile.reshape(-1, *tile.shape[-len(where) :])
    if any(missing):
        tile = np.pad(tile, [(0, 0), *((0, m) for m in missing)], mode="symmetric")
        inner = (slice(at.start - a, None) for a, at in zip(first, where))
        tile = tile[(slice(None), *inner)]
    return tile


def _grown(rows, shape):
    """The rows, with rows of zeros behind them up to the shape."""
    if rows is None:
        return np.zeros(shape, np.float32)
    if shape[1] <= rows.shape[1]:
        return rows
    more = np.zeros((shape[0], shape[1] - rows.shape[1], *shape[2:]), np.float32)
    return np.concatenate([rows, more], axis=1)


def _weights(places, shape, interval):
    """Per axis, the weights of the tiles that begin at each place; those of all tiles sum up to 1.

    Of a tile's pixels: 0 up to the middle of the overlap with a neighbour, a slope, then 1.
    """
    weights = []
    for axis, (length, step) in enumerate(zip(shape, interval)):
        total, along = np.zeros(length), {}
        for place in {where[axis].start: where[axis] for where in places}.values():
            side = place.stop - place.start
            slope = max(min(side - step, _SLOPE), 1)
            rise = np.clip((np.arange(side) + 0.5 - (side - step - slope) / 2) / slope, 0, 1)
            first, last = place.start == 0, place.stop == length
            weight = (1 if first else rise) * (1 if last else rise[::-1]) * np.ones(side)
            total[place] += weight
            along[place.start] = weight
        weights.append(
            {
                start: (weight / total[start : start + len(weight)]).astype(np.float32)
                for start, weight in along.items()
            }
        )
    return weights


def _probabilities(network, tiles, flips, event):
    """The mean over mirror images of tiles; generator of the event between two of them."""
    mirrors = [(), (-1,), (-2,), (-2, -1)] if flips else [()]
    memory_format = torch.channels_last if tiles.ndim == 4 else torch.channels_last_3d
    tiles = tiles.contiguous(memory_format=memory_format)
    total = None
    for axes in mirrors:
        if total is not None:
            yield event
        with torch.inference_mode(), autocast(tiles.device):
            logits = network(tiles.flip(axes) if axes else tiles).float()
            p = logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1)
            p = p.flip(axes) if axes else p
            total = p if total is None else total.add_(p)
    return total / len(mirrors) if flips else total
