"""What a training learns from and is validated on, and the classes in its labels."""

import warnings
from collections import Counter
from collections.abc import Generator, Sequence
from typing import Any

import numpy as np

from napari_metastructure.arrays.blocks import as_list, map_blocks
from napari_metastructure.arrays.chunks import ChunkedArray
from napari_metastructure.arrays.labels import as_labels, count_classes
from napari_metastructure.arrays.statistics import varies
from napari_metastructure.jobs.events import Progress
from napari_metastructure.labels.stroke_parts import hold_out
from napari_metastructure.learning.items import Items
from napari_metastructure.learning.patches import class_indices

__all__ = ["classes_of", "counting", "hold_back", "warn_of_numbers"]

_MAX_CLASSES = 256
_FEWEST_NUMBERS = 5  # label values, background too, from which they may number objects
_SINGLE = 0.9  # of the values of a plane that are single parts, where they do
_LOOKED_AT = 8  # planes
_MANY_CLASSES = 20
_MOST_COUNTED = 2**32  # pixels
_MOST_VALIDATED = 2**26  # of images that are not in memory
_FEWEST_IMAGES = 10  # to hold back whole ones
_FEWEST_STROKES = 4  # of each class, to hold some of them back
_MOST_SEARCHED = 2**26  # pixels, for strokes


def hold_back(
    images: Any, labels: Any, validation_images: Any, validation_labels: Any, config: Any
) -> Any:
    """Items to train on, items to validate on, and whether the labels of these are clean."""
    dims, fraction = config.spatial_dims, config.validation_fraction
    axis = config.channel_axis
    if config.unannotated:
        labels = [_labels_of_strokes(label) for label in as_list(labels)]
    items = Items.of(images, labels, dims, channel_axis=axis)
    every_moments, boxes = items.moments, items.boxes_that_count(config.ignore_label)
    items = items.within(boxes)
    if validation_images is not None:
        _refuse_constant(items)
        if validation_labels is None:
            raise ValueError("The validation images need labels; give validation_labels, too.")
        held_back = Items.of(validation_images, validation_labels, dims, channel_axis=axis)
        return items, held_back.thinned(_MOST_VALIDATED), True
    if validation_labels is not None and not fraction:
        raise ValueError(
            "The clean labels would not be looked at, as nothing is held back; raise the "
            "validation_fraction above 0."
        )
    training, held_back = _split(items, config, clean=validation_labels is not None)
    _refuse_constant(training)
    if validation_labels is None:
        return training, held_back.thinned(_MOST_VALIDATED), False
    clean = Items.of(images, validation_labels, dims, every_moments, axis).within(boxes)
    return training, clean.split(fraction, _FEWEST_IMAGES)[1].thinned(_MOST_VALIDATED), True


def _split(items, config, clean):
    """Items to train on and items to validate on, a share of what is annotated."""
    fraction = config.validation_fraction
    small = sum(label.size for label in items.labels) <= _MOST_SEARCHED
    if fraction and config.unannotated and not clean and small:
        return _split_strokes(items, fraction)
    return items.split(fraction, _FEWEST_IMAGES)


def _split_strokes(items, fraction):
    """Hold back whole strokes of each class, wherever they are; none where they are too few."""
    taught, held_out = hold_out(
        [np.asarray(label) + 1 for label in items.labels], fraction, _FEWEST_STROKES, seed=0
    )
    if held_out is None:
        return items, Items([], [])
    parts = (
        Items(items.images, [stroke - 1 for stroke in strokes], items.moments)
        for strokes in (taught, held_out)
    )
    training, held_back = (part.within(part.boxes_that_count()) for part in parts)
    return training, held_back


def _labels_of_strokes(strokes):
    """Strokes as labels: -1 where nothing is annotated, else the stroke's value minus 1."""
    strokes = as_labels(strokes, "The strokes")

    def on_block(block, start):
        return np.where(block > 0, block.astype(np.int32) - 1, -1)

    return map_blocks(on_block, strokes, dtype=np.int32)


def _refuse_constant(training):
    if not any(map(varies, training.images)):
        raise ValueError(
            "All pixels of the training images are equal, so there is nothing to learn from."
        )


def counting(job: Any, items: Any, config: Any) -> Generator[Any, Any, Any]:
    """Number of pixels per label value, of those that count; generator of `Progress`.

    Labels that do not fit in memory are read chunk by chunk; of more than 2**32 pixels, evenly
    spread planes stand for all.
    """
    labels, counts = items.labels, Counter()
    pixels = sum(label.size for label in labels if isinstance(label, ChunkedArray))
    step = -(-pixels // _MOST_COUNTED) or 1
    if step > 1:
        warnings.warn(
            f"The labels are so large that only 1 in {step} planes is searched for classes; "
            "values on other planes are ignored.",
            stacklevel=2,
        )
    for number, label in enumerate(labels[::step]):
        if isinstance(label, ChunkedArray):
            yield Progress("looking for classes", number * step, len(labels))
        if job.stopping and len(counts) > 1:
            break
        found = count_classes(label, config.ignore_label)
        counts.update(dict(zip(*(part.tolist() for part in found))))
    if config.as_mask:
        counts = Counter({0: counts[0], 1: counts.total() - counts[0]})
    return counts


def _what_to_do(counts):
    """What labels of many values may be, and what to do about that."""
    if max(counts) == 255 and counts[0] + counts[255] > counts.total() / 2:
        return "if they are a mask with smooth edges, divide it at half height first (labels > 127)"
    return "if they number objects, train on the mask (as_mask)"


def classes_of(counts: Any, judged: Any, clean: Any) -> Any:
    """Sorted label values, background first, of the pixels to train on and to validate on."""
    present, judged = {0, *(+counts)}, {0, *(+judged)}
    if present == {0} and judged != {0}:
        raise ValueError(
            "All objects lie in the part of the labels that is held back for validation; paint "
            "some elsewhere, or set validation_fraction to 0."
        )
    if present == {0}:
        raise ValueError(
            "The training labels hold no object, only background; paint some objects first."
        )
    if len(present) == 2 and not counts[0]:
        raise ValueError(
            "The training labels have objects on every pixel that counts, and no background; "
            "annotate some background, too."
        )
    if not clean:
        present |= judged
    if len(present) > _MAX_CLASSES:
        raise ValueError(
            f"The labels hold {len(present)} different values, which look like numbered "
            "objects. Give one value per class, or train on the mask (as_mask)."
        )
    if len(present) > _MANY_CLASSES:
        warnings.warn(
            f"The labels hold {len(present)} different values, and each is trained as a separate "
            f"class; {_what_to_do(counts)}.",
            stacklevel=2,
        )
    if len(present) > 2 and judged - present:
        raise ValueError(
            f"The validation labels hold {min(judged - present)}, which the training labels do "
            "not hold; use the same values in both."
        )
    return sorted(present)


def warn_of_numbers(labels: Sequence[Any], classes: Sequence[int]) -> None:
    """Warn if nearly each value is a single connected part of a plane, as if it numbered objects.

    Parameters
    ----------
    labels : sequence of arrays of int
        Planes or volumes; eight of those in memory are looked at.
    classes : sequence of int
        Label values, background first; more than 20 of them are told of by `classes_of`.
    """
    if not _FEWEST_NUMBERS <= len(classes) <= _MANY_CLASSES:
        return
    in_memory = [label for label in labels if not isinstance(label, ChunkedArray)]
    parts = [
        count
        for label in in_memory[:: -(-len(in_memory) // _LOOKED_AT) or 1]
        for count in _parts_of_each(class_indices(label, classes))
    ]
    if len(parts) >= _FEWEST_NUMBERS and np.mean(np.array(parts) == 1) >= _SINGLE:
        warnings.warn(
            f"The {len(classes)} values of the labels are trained as separate classes, but each "
            "looks like a single object; if they number objects, train on the mask (as_mask).",
            stacklevel=2,
        )


def _parts_of_each(indices):
    """Number of connected parts of each class that occurs."""
    from scipy.ndimage import find_objects, generate_binary_structure, label

    corners = generate_binary_structure(indices.ndim, indices.ndim)
    for number, box in enumerate(find_objects(np.maximum(indices, 0)), 1):
        if box is not None:
            yield label(indices[box] == number, corners)[1]
