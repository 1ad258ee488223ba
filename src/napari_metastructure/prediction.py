"""Tiled prediction: any image size, one batch of tiles at a time."""

from functools import reduce

import numpy as np
import torch

from napari_metastructure.devices import autocast
from napari_metastructure.events import Job, Progress, Result
from napari_metastructure.volumes import round_up

__all__ = ["predict", "predict_tiles"]

_TILE = {2: 512, 3: 96}  # side in pixels, by spatial dimensions
_SLOPE = 16  # pixels over which neighbouring tiles are blended


def predict(model, image, *, region=None, **tiling):
    """Apply a model as a job that can be watched and stopped.

    Parameters
    ----------
    model : SegmentationModel
    image : array of real numbers
        As for `SegmentationModel.predict`.
    region : array of bool, optional
        Only where it holds is predicted; the rest is 0.
    **tiling
        ``tile, overlap, batch_size`` of `predict_tiles`.

    Returns
    -------
    Job
        An iterator of `Progress` and at last a `Result` with the probabilities.
    """

    def work(job):
        prediction = model.predicting(image, region=region, **tiling)
        shape = model.channels_first(image).shape[: -model.spatial_dims]
        total = int(np.prod(shape[:-1] if model.channel_axis is not None else shape))
        while True:
            try:
                plane, done, tiles = next(prediction)
            except StopIteration as end:
                yield Result(end.value)
                return
            yield Progress("predicting", plane * tiles + done, total * tiles)
            if job.stopping:
                yield Result(None, stopped=True)
                return

    return Job(work)


def predict_tiles(
    network, image, *, multiple, tile=None, overlap=0.25, batch_size=None, flips=False
):
    """Predict one plane or volume tile by tile, blending tiles around the middle of their overlap.

    A generator, so that the caller can show progress and stop between batches of tiles.

    Parameters
    ----------
    network : torch.nn.Module
        In evaluation mode, on the device to use.
    image : array of float, (y, x) or (z, y, x), or with channels first
        Normalised pixels. Sides are filled up by reflection to a multiple of `multiple`.
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

    Yields
    ------
    tuple of int
        (tiles done, tiles in all).

    Returns
    -------
    array of float32, (classes, [z,] y, x)
        Probabilities: of the object for one channel, of each class for more.
    """
    from monai.data.utils import dense_patch_slices

    device = next(network.parameters()).device
    dims = np.size(multiple) if np.ndim(multiple) else image.ndim
    sides = image.shape[-dims:]
    image = image.reshape(-1, *sides)
    multiple = np.broadcast_to(multiple, dims).tolist()
    tile = np.broadcast_to(_TILE[dims] if tile is None else tile, dims).tolist()
    batch_size = batch_size or (1 if device.type == "cpu" else 4)
    padded = [round_up(side, m) for side, m in zip(sides, multiple)]
    tile_shape = [min(p, round_up(t, m)) for p, t, m in zip(padded, tile, multiple)]
    interval = [max(1, int(t * (1 - overlap)) // m) * m for t, m in zip(tile_shape, multiple)]
    missing = [(0, 0), *((0, p - s) for p, s in zip(padded, sides))]
    filled = np.pad(image, missing, mode="symmetric")
    places = dense_patch_slices(padded, tile_shape, interval)
    total, weights = None, np.zeros(padded, np.float32)
    for start in range(0, len(places), batch_size):
        batch = places[start : start + batch_size]
        tiles = torch.from_numpy(np.stack([filled[(slice(None), *where)] for where in batch]))
        probabilities = _probabilities(network, tiles.to(device), flips).cpu().numpy()
        if total is None:
            total = np.zeros((probabilities.shape[1], *padded), np.float32)
        for where, probability in zip(batch, probabilities):
            weight = _weight(where, padded, interval)
            total[(slice(None), *where)] += probability * weight
            weights[where] += weight
        yield min(start + batch_size, len(places)), len(places)
    total /= weights
    return total[(slice(None), *(slice(side) for side in sides))]


def _weight(where, shape, interval):
    """Of a tile's pixels: 0 up to the middle of the overlap with a neighbour, a slope, then 1."""
    axes = []
    for place, length, step in zip(where, shape, interval):
        side = place.stop - place.start
        slope = max(min(side - step, _SLOPE), 1)
        rise = np.clip((np.arange(side) + 0.5 - (side - step - slope) / 2) / slope, 0, 1)
        first, last = place.start == 0, place.stop == length
        axes.append((1 if first else rise) * (1 if last else rise[::-1]) * np.ones(side))
    return reduce(np.multiply.outer, axes).astype(np.float32)


def _probabilities(network, tiles, flips):
    mirrors = [(), (-1,), (-2,), (-2, -1)] if flips else [()]
    memory_format = torch.channels_last if tiles.ndim == 4 else torch.channels_last_3d
    tiles = tiles.contiguous(memory_format=memory_format)
    total = 0
    with torch.inference_mode(), autocast(tiles.device):
        for axes in mirrors:
            logits = network(tiles.flip(axes)).float()
            p = logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1)
            total = total + p.flip(axes)
    return total / len(mirrors)
