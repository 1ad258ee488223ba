"""Random training patches, cut straight from images and labels."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_metastructure.arrays.blocks import round_up
from napari_metastructure.learning.items import Items
from napari_metastructure.learning.losses import IGNORE

__all__ = ["PatchSampler", "Prefetched", "class_indices"]


def class_indices(labels: Any, classes: Sequence[int], ignore_label: int | None = None) -> NDArray:
    """Labels as indices into the classes, int64, with `IGNORE` for -1 and `ignore_label`.

    Parameters
    ----------
    labels : array of int or bool
    classes : sequence of int
        Label values in ascending order, background first. With two classes any label
        that is not 0 counts as object; with more, other values are left out.
    ignore_label : int, optional
    """
    if len(classes) == 2:
        indices = (labels != 0).astype(np.int64)
    else:
        indices = np.searchsorted(classes, labels)
        indices[np.take(classes, indices, mode="clip") != labels] = IGNORE
    indices[labels == IGNORE] = IGNORE
    if ignore_label is not None:
        indices[labels == ignore_label] = IGNORE
    return indices


class PatchSampler:
    """Random patches with flips and quarter turns, normalised, straight from the arrays.

    Parameters
    ----------
    items : Items
        Where the patches come from, each pixel of the entries' boxes with the same chance.
    classes : sequence of int
        Label values in ascending order; a target holds their indices.
    patch_size : int or sequence of int
        Sides of a patch in pixels, multiples of `multiple`. Sides of smaller images are
        filled up to a multiple of `multiple` by reflection, and left out of the loss.
    batch_size : int
        Patches per batch.
    foreground : float, [0, 1]
        Share of the patches that must hold a pixel of a foreground class, the others any pixel
        that counts, where ten tries find one. Of several foreground classes (and at most 2**30
        pixels), these patches lie around a class chosen evenly, so that rare ones are seen.
    ignore_label : int, optional
        A label, besides -1, that becomes `losses.IGNORE`.
    augmentation : Augmentation, optional
        Changes each patch at random, by a seed drawn for it.
    seed : int or numpy.random.Generator, optional
        Seed of the drawing.

    Attributes
    ----------
    slots : slice
        The part of each batch that is cut, where several processes share the work; by default all.
    """

    _TRIES = 10
    _MOST_PLACES = 4096  # per class, that patches are laid around
    _MOST_SEARCHED = 2**30  # pixels, for these places
    slots = slice(None)

    def __init__(
        self,
        items: Items,
        classes: Sequence[int],
        *,
        patch_size: Any = 128,
        batch_size: Any = 8,
        multiple: Any = 8,
        foreground: float = 0.5,
        ignore_label: int | None = None,
        augmentation: Any = None,
        seed: Any = None,
    ) -> None:
        self.augmentation = augmentation
        self.items = items
        self.classes = classes
        self.batch_size = batch_size
        self.foreground = foreground
        self.ignore_label = ignore_label
        self.rng = np.random.default_rng(seed)
        largest = np.max([label.shape for label in items.labels], axis=0)
        sides = np.broadcast_to(patch_size, len(largest)).tolist()
        multiple = np.broadcast_to(multiple, len(largest)).tolist()
        self.shape = tuple(min(p, round_up(s, m)) for p, s, m in zip(sides, largest, multiple))
        boxes = [items.box(index) for index in range(len(items))]
        sizes = np.array([np.prod([p.stop - p.start for p in box]) for box in boxes], dtype=float)
        self._chances = sizes / sizes.sum()
        self.batches_per_epoch = max(
            1, round(sizes.sum() / np.prod(self.shape, dtype=float) / batch_size)
        )

    @cached_property
    def _places(self):
        """Per foreground class that occurs, evenly spread pixels of it: (n, entry and position).

        None for two classes, and where the labels are too many to look through.
        """
        labels, found = self.items.labels, []
        if len(self.classes) == 2 or sum(label.size for label in labels) > self._MOST_SEARCHED:
            return found
        for value in self.classes[1:]:
            places = []
            for index, label in enumerate(labels):
                box = self.items.box(index)
                where = np.argwhere(np.asarray(label[box]) == value)
                where = where[:: -(-len(where) // self._MOST_PLACES) or 1]
                where = where + [part.start for part in box]
                places.append(np.insert(where, 0, index, axis=1))
            places = np.concatenate(places)
            places = places[:: -(-len(places) // self._MOST_PLACES) or 1]
            if len(places):
                found.append(places)
        return found

    def batch(self) -> tuple[NDArray, NDArray]:
        """One batch: images (batch, channels, *patch) float32, targets (batch, *patch) int64."""
        channels = self.items.images[0].shape[: -len(self.shape)] or (1,)
        images = np.empty((self.batch_size, *channels, *self.shape), np.float32)
        targets = np.empty((self.batch_size, *self.shape), np.int64)
        wanted = range(self.batch_size)[self.slots]
        for slot in range(self.batch_size):
            index, where, target = self._draw()
            turn = self._turn()
            seed = self.rng.integers(2**32) if self.augmentation is not None else None
            if slot not in wanted:
                continue
            images[slot] = turn(_fill(self.items.image(index, where), self.shape, "symmetric"))
            missing = self.items.missing(index, where)
            if missing is not None:
                target[missing] = IGNORE
            targets[slot] = turn(_fill(target, self.shape, "constant", constant_values=IGNORE))
            if seed is not None:
                images[slot], targets[slot] = self.augmentation(images[slot], targets[slot], seed)
        return images[self.slots], targets[self.slots]

    def _draw(self):
        """An entry, a place with pixels that count, of the foreground if asked for, its target."""
        least = 1 if self.rng.random() < self.foreground else 0
        if least and self._places:
            return self._draw_around_class()
        for _ in range(self._TRIES):
            index = self.rng.choice(len(self.items), p=self._chances)
            label_array = self.items.labels[index]
            starts = [
                self.rng.integers(*_starts(part, size, side))
                for part, size, side in zip(self.items.box(index), self.shape, label_array.shape)
            ]
            where = tuple(slice(start, start + size) for start, size in zip(starts, self.shape))
            target = class_indices(np.asarray(label_array[where]), self.classes, self.ignore_label)
            if (target >= least).any():
                break
        return index, where, target

    def _draw_around_class(self):
        """A patch that holds a random pixel of a class chosen evenly."""
        index, *place = self.rng.choice(self._places[self.rng.integers(len(self._places))])
        label, where = self.items.labels[index], []
        for at, part, size, side in zip(place, self.items.box(index), self.shape, label.shape):
            first, end = _starts(part, size, side)
            start = int(np.clip(at - self.rng.integers(size), first, end - 1))
            where.append(slice(start, start + size))
        target = class_indices(np.asarray(label[tuple(where)]), self.classes, self.ignore_label)
        return index, tuple(where), target

    def _turn(self):
        """A random element of the square's symmetry in (y, x), and a flip of z."""
        quarters = self.rng.integers(4) if self.shape[-1] == self.shape[-2] else 0
        flipped = [axis for axis in range(-len(self.shape), 0) if self.rng.integers(2)]

        def turn(patch):
            return np.flip(np.rot90(patch, quarters, axes=(-2, -1)), flipped)

        return turn


class Prefetched:
    """The batches of a sampler, each cut in a thread while the network works on the one before.

    A context: at its end, random numbers that were drawn for a batch ahead are given back.

    Parameters
    ----------
    sampler : PatchSampler

    Attributes
    ----------
    state : dict
        The random state of the sampler before the batch that comes next.
    """

    def __init__(self, sampler: PatchSampler) -> None:
        self.sampler = sampler
        self.state = sampler.rng.bit_generator.state
        self._pool = _single_threaded_pool()
        self._coming: Future | None = None

    def __enter__(self) -> "Prefetched":
        return self

    def __exit__(self, *_: Any) -> None:
        self._pool.shutdown()
        self.sampler.rng.bit_generator.state = self.state

    def batch(self) -> tuple[NDArray, NDArray]:
        """What `PatchSampler.batch` gives; the next one is begun."""
        batch = (self._coming or self._pool.submit(self.sampler.batch)).result()
        self.state = self.sampler.rng.bit_generator.state
        self._coming = self._pool.submit(self.sampler.batch)
        return batch


def _single_threaded_pool():
    """A pool of one thread in which PyTorch uses one thread.

    Patches are small: where the cores are busy, threads that share their changes wait for each
    other ten times as long as one takes for all.
    """
    import torch

    def alone():
        torch.set_num_threads(1)
        torch.get_num_threads()  # a thread's first look takes the number that was set last

    threads, pool = torch.get_num_threads(), ThreadPoolExecutor(1)
    pool.submit(alone).result()
    torch.set_num_threads(threads)  # of this thread, as it was, and of new ones
    return pool


def _starts(part, size, side):
    """Range of where a patch of this size may begin, to lie in the part or around it."""
    first, last = sorted((part.start, part.stop - size))
    last_of_all = max(side - size, 0)
    return min(max(first, 0), last_of_all), min(max(last, 0), last_of_all) + 1


def _fill(patch, shape, mode, **padding):
    """Pad at the end of each of the last axes up to the shape."""
    sides = patch.shape[-len(shape) :]
    if sides == shape:
        return patch
    missing = [(0, 0)] * (patch.ndim - len(shape))
    missing += [(0, size - side) for side, size in zip(sides, shape)]
    return np.pad(patch, missing, mode=mode, **padding)
