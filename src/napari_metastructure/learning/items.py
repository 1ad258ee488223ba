"""Images and their labels, plane by plane (or volume by volume), in memory or read lazily."""

from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np

from napari_metastructure.arrays.axes import channels_first, without_channels
from napari_metastructure.arrays.blocks import as_list, evenly, planes
from napari_metastructure.arrays.chunks import ChunkedArray, chunk_cache, in_chunks
from napari_metastructure.arrays.labels import as_labels
from napari_metastructure.arrays.statistics import channel_moments, normalised
from napari_metastructure.learning.losses import IGNORE

__all__ = ["Items"]

_SAMPLED = 2**24  # pixels of a larger plane or volume, in chunks, that are read for its moments
_BLOCK = {2: 2048, 3: 256}  # side, by spatial dimensions
_LARGEST_PLANE = 2**28  # pixels of a plane or volume that is read whole


@dataclass
class Items:
    """Planes (or volumes), one per entry, with what brings each to zero mean, unit deviation.

    Slicing an entry is all that touches the pixels, so arrays may be lazy: of dask and zarr arrays
    a patch reads the chunks it lies in, through a cache that they share. The moments of such an
    entry are taken when it is first used; of more than 2**24 pixels, from evenly spread chunks.
    With channels an image has one axis more than its labels, the first, and one mean and
    deviation per channel. `boxes` holds, per entry, the slices outside of which no pixel counts.
    """

    images: list
    labels: list
    moments: list = field(default_factory=list)
    boxes: list | None = None

    @classmethod
    def of(
        cls,
        images: Any,
        labels: Any = None,
        spatial_dims: int = 2,
        known_moments: Any = None,
        channel_axis: int | None = None,
    ) -> "Items":
        """Split images, and labels that match, into planes or volumes.

        With `known_moments`, one per plane or volume, the pixels are not looked at. The channel
        axis, if there is one, is that of the images; labels do not have it.

        Raises
        ------
        TypeError
            If the images are not real numbers or the labels not integers.
        ValueError
            If images and labels differ in number or shape, or an image is empty,
            has too few axes or holds NaN or infinity, or images differ in their channels.
        """
        images = as_list(images)
        labels = [None] * len(images) if labels is None else as_list(labels)
        if not images:
            raise ValueError("Give at least one image.")
        if len(images) != len(labels):
            raise ValueError(
                f"There are {len(images)} images but {len(labels)} label arrays; "
                "give one label array per image."
            )
        items, cache = cls([], []), chunk_cache()
        for number, (image, label) in enumerate(zip(images, labels)):
            label = None if label is None else as_labels(label, f"Label array {number}")
            _check(number, image, label, channel_axis)
            image = in_chunks(image, cache, sampled=_SAMPLED)
            image = channels_first(image, channel_axis, spatial_dims)
            items.images += planes(image, spatial_dims + (channel_axis is not None))
            label = None if label is None else in_chunks(label, cache)
            items.labels += [None] if label is None else planes(label, spatial_dims)
        counts = {image.shape[:-spatial_dims] for image in items.images}
        if len(counts) > 1:
            text = ", ".join(str(*count) for count in sorted(counts))
            raise ValueError(f"The images should have the same number of channels, not {text}.")
        items.moments = known_moments or [
            _Later(_moments, image, spatial_dims, place)
            if isinstance(image, ChunkedArray)
            else _moments(image, spatial_dims, place)
            for image, place in zip(items.images, _places(len(items), spatial_dims))
        ]
        return items

    def __len__(self):
        return len(self.images)

    def image(self, index: Any, where: Any = ()) -> Any:
        """The normalised pixels of one entry, float32; `where` counts spatial axes only."""
        return normalised(self.images[index][(..., *where)], *self.moments[index])

    def missing(self, index: Any, where: Any = ()) -> Any:
        """Where a pixel of one entry is NaN or infinite, in any channel; None if it cannot be."""
        image = self.images[index]
        if image.dtype.kind != "f":
            return None
        missing = ~np.isfinite(np.asarray(image[(..., *where)]))
        return missing.any(0) if missing.ndim > self.labels[index].ndim else missing

    def pictures(self, channel: Any = None) -> list:
        """One plane of values per entry, to look at: the image itself if it has no channels, else
        one of them or the mean of all, normalised.
        """
        if np.ndim(self.moments[0][0]) == 0:
            return self.images
        if channel is None:
            return [self.image(index).mean(axis=0) for index in range(len(self))]
        if channel >= len(self.images[0]):
            raise ValueError(
                f"There is no channel {channel}; the images have {len(self.images[0])}, from 0."
            )
        return [image[channel] for image in self.images]

    def box(self, index: Any) -> Any:
        """Slices outside of which no pixel of an entry counts."""
        if self.boxes is not None:
            return self.boxes[index]
        return tuple(slice(0, side) for side in self.labels[index].shape)

    def boxes_that_count(self, ignore_label: int | None = None) -> list | None:
        """Per entry the smallest slices around the pixels that count, None where there are none.

        None for all if the labels cannot hold an ignored value; then they are not looked at.
        """
        if ignore_label is None and all(label.dtype.kind in "bu" for label in self.labels):
            return None
        return [_box(label, ignore_label) for label in self.labels]

    def within(self, boxes: Any) -> "Items":
        """The entries that have a box, with their boxes."""
        if boxes is None:
            return self
        kept = [index for index, box in enumerate(boxes) if box is not None]
        if not kept:
            raise ValueError("All pixels of the labels are ignored; annotate some.")
        parts = (self.images, self.labels, self.moments, boxes)
        return Items(*([part[index] for index in kept] for part in parts))

    def split(self, fraction: float, fewest: int = 4) -> "tuple[Items, Items]":
        """Training and validation items: the last entries, of fewer than `fewest` the end of each.

        Neighbours in a stack or in file order often share pixels, so the validation part is
        one block, never drawn at random.
        """
        if fraction == 0:
            return self, Items([], [])
        if len(self) >= fewest:
            cut = _cut(len(self), fraction)
            return self._take(slice(cut)), self._take(slice(cut, None))
        boxes: tuple[list, list] = [], []
        training, held_back = (Items([], [], self.moments, found) for found in boxes)
        for index, (image, label) in enumerate(zip(self.images, self.labels)):
            box = self.box(index)
            axis = int(np.argmax([part.stop - part.start for part in box]))
            begin, end = box[axis].start, box[axis].stop
            cut = begin + _cut(end - begin, fraction)
            ranges = (0, cut), (cut, label.shape[axis])
            for part, found, (start, stop) in zip((training, held_back), boxes, ranges):
                where = [slice(None)] * label.ndim
                where[axis] = slice(start, stop)
                part.images.append(image[(..., *where)])
                part.labels.append(label[tuple(where)])
                inside = list(box)
                inside[axis] = slice(max(begin, start) - start, min(end, stop) - start)
                found.append(tuple(inside))
        return training, held_back

    def thinned(self, most_pixels: int | None) -> "Items":
        """Evenly spread entries, of larger ones blocks, if the images are not in memory and hold
        more pixels than that.
        """
        if not any(isinstance(image, ChunkedArray) for image in self.images):
            return self
        places = self._spread(most_pixels)
        images = [self.images[index][(..., *where)] for index, where in places]
        labels = [self.labels[index][where] for index, where in places]
        return Items(images, labels, [self.moments[index] for index, _ in places])

    def in_memory(self, most_pixels: int | None = None, *, unlabelled: bool = False) -> "Items":
        """The entries as numpy arrays.

        Parameters
        ----------
        most_pixels : int, optional
            Of more pixels in all, evenly spread entries are taken, and of entries larger than a
            block of 2048 x 2048 (or 256 x 256 x 256) pixels, blocks; where there are labels, such
            with a label.
        unlabelled : bool
            After these, as many without a label as may be.
        """
        if most_pixels is None and not any(isinstance(i, ChunkedArray) for i in self.images):
            return self
        labelled = self.labels[0] is not None
        taken = Items([], [] if labelled else [None])
        sought = most_pixels is not None and labelled
        for index, where in self._spread(most_pixels, labelled=sought, unlabelled=unlabelled):
            taken.images.append(np.array(self.images[index][(..., *where)]))
            if labelled:
                taken.labels.append(np.array(self.labels[index][where]))
            taken.moments.append(self.moments[index])
        return taken

    def _spread(self, most_pixels, labelled=False, unlabelled=False):
        """(index, slices) of evenly spread entries or blocks of about so many pixels in all."""
        channels = np.ndim(self.moments[0][0]) > 0
        side, places = _BLOCK[self.images[0].ndim - channels], []
        for index, image in enumerate(self.images):
            sides = image.shape[channels:]
            if most_pixels is None or np.prod(sides) <= side ** len(sides):
                sides = [(slice(0, n),) for n in sides]
            else:
                sides = [[slice(a, min(a + side, n)) for a in range(0, n, side)] for n in sides]
            places += [(index, where) for where in product(*sides)]
        first = range(len(places))
        if labelled:
            first = [n for n, place in enumerate(places) if self._labelled(*place)] or first
        if most_pixels is None:
            return [places[n] for n in first]
        counted = places if unlabelled else [places[n] for n in first]
        pixels = np.mean([np.prod([w.stop - w.start for w in where]) for _, where in counted])
        count = max(1, int(most_pixels / pixels))
        chosen = evenly(first, count)
        if unlabelled:
            chosen += evenly(sorted({*range(len(places))} - {*first}), count - len(chosen))
        return [places[n] for n in sorted(chosen)]

    def _labelled(self, index, where):
        return bool(np.asarray(self.labels[index][where]).any())

    def _take(self, which):
        boxes = None if self.boxes is None else self.boxes[which]
        return Items(self.images[which], self.labels[which], self.moments[which], boxes)


def _places(count, spatial_dims):
    """What each entry is called."""
    if count == 1:
        return ["The image"]
    part = "Plane" if spatial_dims == 2 else "Volume"
    return [f"{part} {number} of {count} of the images" for number in range(1, count + 1)]


def _moments(image, spatial_dims, place):
    try:
        return channel_moments(image, spatial_dims)
    except ValueError:  # of a channel, where there are several
        what = "has a channel of" if image.ndim > spatial_dims else "holds"
        raise ValueError(
            f"{place} {what} only NaN or infinity; leave it out, or replace these pixels first."
        ) from None


class _Later:
    """A tuple that is made when it is first unpacked."""

    def __init__(self, function, *arguments):
        self._make, self._made = (function, arguments), None

    def __iter__(self):
        if self._made is None:
            function, arguments = self._make
            self._made, self._make = function(*arguments), None
        return iter(self._made)

    def __getitem__(self, index):
        return tuple(self)[index]


def _cut(length, fraction):
    """Where the validation part begins: one entry at least on either side of it."""
    return max(1, length - max(1, round(fraction * length)))


def _box(label, ignore_label):
    """The smallest slices around the pixels that count; None if there are none."""
    from scipy.ndimage import find_objects

    if isinstance(label, ChunkedArray) and label.size > _LARGEST_PLANE:
        return tuple(slice(0, side) for side in label.shape)
    label = np.asarray(label)
    counted = label != IGNORE
    if ignore_label is not None:
        counted &= label != ignore_label
    return (find_objects(counted.astype(np.uint8)) or [None])[0]


def _check(number, image, label, channel_axis=None):
    if not (np.issubdtype(image.dtype, np.number) or image.dtype == bool):
        raise TypeError(f"Image {number} should hold real numbers, not {image.dtype}.")
    if np.issubdtype(image.dtype, np.complexfloating):
        raise TypeError(f"Image {number} is complex; give its magnitude or one of its parts.")
    if label is None:
        return
    if without_channels(image.shape, channel_axis) != label.shape:
        same = "they should be the same" if channel_axis is None else "without its channels, equal"
        raise ValueError(
            f"Image {number} has shape {image.shape} but its labels have {label.shape}; {same}."
        )
