"""The classifier's work for the window: learn the strokes, then predict what is in view."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_metastructure.labels.strokes import uncertainty
from napari_metastructure.learning.features import tiles
from napari_metastructure.learning.stroke_classifier import StrokeClassifier

__all__ = ["Learned", "LiveClassifier", "Piece", "Place", "View"]

_FIRST_LOOK = 2**16  # pixels decided at once for a first look
_SIDE = 256  # of tiles of planes
_SIDE_OF_CUBES = 48
_PLANES_SEARCHED = 12  # for the place where a stroke helps most
_NEIGHBOURHOOD = 8.0  # pixels: sigma of the region that a stroke informs
_AWAY = 20  # pixels from strokes that are there


@dataclass(frozen=True)
class View:
    """What is in view: the plane's index into the leading axes, and slices within it."""

    index: tuple[int, ...]
    box: tuple[slice, ...]


@dataclass(frozen=True)
class Learned:
    """The strokes were learnt."""

    oob_error: float
    pixels: int
    planes: int


@dataclass(frozen=True)
class Piece:
    """Part of a plane's result: labels and uncertainty, each pixel standing for `step` squared."""

    index: tuple[int, ...]
    box: tuple[slice, ...]
    step: int
    labels: np.ndarray
    uncertainty: np.ndarray


@dataclass(frozen=True)
class Place:
    """Where a stroke would help most: the plane's index, and the pixel in it."""

    index: tuple[int, ...]
    pixel: tuple[int, ...]


class LiveClassifier:
    """A stroke classifier of one image set as it is read, and its decisions.

    Parameters
    ----------
    arrays : sequence of arrays
        Images with channels, if any, just before the spatial axes.
    spatial_dims, has_channels, anisotropy
        How they are read.
    budget : int
        Bytes of features to keep.
    """

    def __init__(
        self,
        arrays: Any,
        spatial_dims: int,
        has_channels: bool,
        anisotropy: float = 1.0,
        budget: Any = 2**30,
    ) -> None:
        self.arrays = list(arrays)
        self.spatial_dims, self.has_channels = spatial_dims, has_channels
        self.classifier = StrokeClassifier(
            spatial_dims=spatial_dims,
            channel_axis=-spatial_dims - 1 if has_channels else None,
            anisotropy=anisotropy,
            budget=budget,
        )
        self.threshold = 0.5
        self.cancelled = False

    # ------------------------------------------------------------------ work in a thread

    def update(self, strokes: Any, view: Any, *, learn: bool = True, first: int = 0) -> Iterator:
        """Learn the strokes and predict what is in view; generator of `Learned` and `Piece`.

        Parameters
        ----------
        strokes : sequence of arrays
            One per image, without channels.
        view : View
            Of the image numbered `first`.
        learn : bool
            Whether strokes have changed; otherwise only predict.
        first : int
            Number of the image that is shown.
        """
        if learn or not self.classifier.fitted:
            self._learn(strokes)
            painted = [int(np.count_nonzero(one)) for one in strokes]
            yield Learned(self.classifier.oob_error, sum(painted), self._painted_planes(strokes))
        yield from self._predict(view, first)

    def _learn(self, strokes):
        images, keys, planes = [], [], []
        for number, stroke in enumerate(strokes):
            leading = stroke.shape[: stroke.ndim - self.spatial_dims]
            for index in np.ndindex(*leading):
                if np.any(stroke[index]):
                    images.append(self._plane(number, index))
                    planes.append(np.array(stroke[index]))  # they may be painted on meanwhile
                    keys.append((number, index))
        if not planes:
            from napari_metastructure.labels.strokes import check_strokes

            check_strokes(strokes)
        self.classifier.fit(images, planes, keys=keys)

    def _painted_planes(self, strokes):
        axes = tuple(range(-self.spatial_dims, 0))
        return int(sum(np.count_nonzero(np.any(one, axis=axes)) for one in strokes))

    def _plane(self, number, index):
        return np.asarray(self.arrays[number][index])

    def _predict(self, view, number):
        plane = self._plane(number, view.index)
        key, shape = (number, view.index), plane.shape[-self.spatial_dims :]
        boxes = _tiles_in_view(shape, view.box)
        pixels = sum(np.prod([part.stop - part.start for part in box]) for box in boxes)
        step = 1
        while pixels / step**2 > _FIRST_LOOK:
            step *= 2
        steps = (step, 1) if step > 1 else (1,)
        for step in steps:
            whole = []
            for box, found in self.classifier.predicting_plane(
                plane, key=key, boxes=boxes, step=step
            ):
                if self.cancelled:
                    return
                whole.append((box, found))
                yield Piece(view.index, box, step, self.decide(found), uncertainty(found))
        if whole and len(self.classifier.classes) > 2:
            yield from self._with_new_weights(view, whole)
        elif whole:
            yield from self._with_new_threshold(plane, view, whole)

    def decide(self, probabilities: np.ndarray) -> np.ndarray:
        """Labels, the stroke value minus 1, of probabilities with the class axis first."""
        classes = self.classifier.classes
        if len(classes) == 2:
            value = classes[1] - 1
            return np.where(probabilities[value] > self.threshold, value, 0).astype(np.uint8)
        return probabilities.argmax(0).astype(np.uint8)

    def _with_new_threshold(self, plane, view, whole):
        """Pieces again if the threshold, chosen as for the result, has moved; generator."""
        from napari_metastructure.few_labels.stroke_threshold import threshold_of_classifier

        value = self.classifier.classes[1] - 1
        picture = plane.mean(axis=0) if self.has_channels else plane
        found = [_flat(probabilities[value]) for _, probabilities in whole]
        pictures = [_flat(picture[box]) for box, _ in whole]
        threshold, _ = threshold_of_classifier(self.classifier, found, pictures)
        moved, self.threshold = abs(threshold - self.threshold) > 0.02, threshold
        if moved:
            yield from self._again(view, whole)

    def _with_new_weights(self, view, whole):
        """Pieces again if the weights of several classes, as in the result, move; generator."""
        boxes, probabilities = zip(*whole)
        before = self.classifier.class_weights
        weighed = self.classifier.weigh_classes(probabilities)
        after = self.classifier.class_weights
        if before is None or np.abs(after - before).max() > 0.02:
            yield from self._again(view, zip(boxes, weighed))

    def _again(self, view, whole):
        """Pieces of boxes and their probabilities."""
        for box, probabilities in whole:
            if self.cancelled:
                return
            yield Piece(view.index, box, 1, self.decide(probabilities), uncertainty(probabilities))

    def next_place(self, strokes: Any, view: Any, *, first: int = 0) -> Iterator[Place | None]:
        """Find the place where a stroke would help most; generator, the `Place` comes last.

        That is where the classifier is least certain over a neighbourhood, away from strokes, on
        the plane in view or on one of evenly spread others. What lies outside the image counts as
        certain, so that a place at its edge has to be worth it.
        """
        from scipy.ndimage import binary_dilation, gaussian_filter

        if not self.classifier.fitted:
            self._learn(strokes)
        depth = self.spatial_dims - 2  # leading axes of a volume are cut into planes, too
        leading = strokes[first].shape[:-2]
        every = list(np.ndindex(*leading))
        in_view = (*view.index, *((part.start + part.stop) // 2 for part in view.box[:depth]))
        spread = np.linspace(0, len(every) - 1, min(_PLANES_SEARCHED, len(every))).round()
        best, place = -1.0, None
        for cut in dict.fromkeys([in_view, *(every[int(k)] for k in spread)]):
            if self.cancelled:
                return
            index, within = cut[: len(cut) - depth], cut[len(cut) - depth :]
            open_question = gaussian_filter(
                self._doubt(first, index, within), _NEIGHBOURHOOD, mode="constant"
            )
            near = np.asarray(strokes[first][cut]) > 0
            if near.any():
                near = binary_dilation(near, iterations=_AWAY)
            open_question[near] = 0
            pixel = np.unravel_index(int(open_question.argmax()), open_question.shape)
            if open_question[pixel] > best:
                best, place = open_question[pixel], Place(index, (*within, *map(int, pixel)))
            yield None
        yield place

    def _doubt(self, number, index, within):
        """Uncertainty of one plane (y, x); `within` is its place in a volume."""
        image = self._plane(number, index)
        sides = image.shape[-self.spatial_dims :]
        view = (*(slice(k, k + 1) for k in within), *map(slice, (0, 0), sides[-2:]))
        found = np.zeros(sides[-2:], np.float32)
        predicted = self.classifier.predicting_plane(
            image, key=(number, index), boxes=_tiles_in_view(sides, view)
        )
        for box, probabilities in predicted:
            found[box[-2:]] = _flat(uncertainty(probabilities))
        return found


def _flat(part):
    """A part of a volume that is one plane, as a plane; another one as it is."""
    return part[0] if part.ndim == 3 and len(part) == 1 else part


def _tiles_in_view(shape, view):
    """Boxes that a view touches; of a volume of which one plane is in view, only that plane."""
    if len(shape) == 2:
        return _in_view(tiles(shape, _SIDE), view)
    if view[0].stop - view[0].start > 1:
        return _in_view(tiles(shape, _SIDE_OF_CUBES), view)
    return [(view[0], *box) for box in _in_view(tiles(shape[1:], _SIDE), view[1:])]


def _in_view(boxes, view):
    """Those boxes that a view touches, the nearest to its middle first."""
    middle = np.array([(part.start + part.stop) / 2 for part in view])

    def touches(box):
        return all(a.start < b.stop and b.start < a.stop for a, b in zip(box, view))

    def distance(box):
        return np.linalg.norm([(p.start + p.stop) / 2 for p in box] - middle)

    return sorted(filter(touches, boxes), key=distance) or boxes[:1]
