"""A pixel classifier taught by a few strokes of a brush: a quick look, and a network's teacher."""

import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_metastructure.arrays.axes import channels_first, without_channels
from napari_metastructure.arrays.blocks import as_list, planes
from napari_metastructure.arrays.statistics import channel_moments
from napari_metastructure.labels.strokes import check_strokes
from napari_metastructure.learning.features import SIGMAS, FeatureCache, Features, tiles

__all__ = ["StrokeClassifier"]

_TILE = {2: 256, 3: 48}  # side of a tile, by spatial dimensions
_MOST_ROWS = 20_000  # annotated pixels that the forest learns from
_ROWS_AT_ONCE = 2**16
_MOST_FOLDS = 5
_SEEDS = 2**32  # scikit-learn takes smaller ones only
_LEAST_SHARE = 1e-3  # of a class
_FORMAT = "napari-metastructure strokes"
_FORMAT_VERSION = 1


class StrokeClassifier:
    """A random forest on multi-scale features of the pixels under strokes.

    Strokes are integers of the images' shapes, without channels: 0 not annotated, 1 background, 2
    object, 3 and more further classes. A class keeps its number when its strokes are erased.

    Parameters
    ----------
    spatial_dims : {2, 3}
        Planes (y, x) or volumes (z, y, x).
    channel_axis : int, optional
        Axis of the images that holds channels or colours, all of which are used.
    anisotropy : float
        Size of a voxel along z over its size along y and x.
    sigmas : sequence of float
        Scales of the features, in pixels along y and x.
    trees : int
        Of the forest.
    seed : int
    budget : int
        Bytes of features that are kept for the next prediction.

    Attributes
    ----------
    classes : list of int
        The stroke values learnt, in ascending order.
    num_classes : int
        The largest stroke value ever learnt: the length of the probabilities' first axis.
    oob_error : float
        Share of annotated pixels that the trees which did not see them get wrong; the classes
        count alike. Neighbours in a stroke resemble each other, so it is a lower bound.
    polarity : {"bright", "dark"}
        Whether strokes of the highest class lie on brighter pixels than those on background.
    class_weights : array of float, (num_classes,), or None
        What probabilities are multiplied by; None until `weigh_classes` is called, and again
        when there are strokes of other classes.
    """

    def __init__(
        self,
        *,
        spatial_dims: int = 2,
        channel_axis: int | None = None,
        anisotropy: float = 1.0,
        sigmas: Sequence[float] = SIGMAS,
        trees: int = 100,
        seed: int = 0,
        budget: int = 2**30,
    ):
        self.channel_axis, self.trees, self.seed = channel_axis, trees, seed
        self.features = Features(spatial_dims, float(anisotropy), tuple(map(float, sigmas)))
        self.cache = FeatureCache(self.features, budget)
        self.classes, self.num_classes = [], 0
        self.oob_error = float("nan")
        self.polarity = "bright"
        self.class_weights: Any = None
        self.forest: Any = None
        self._rows: Any = None
        self._values: Any = None
        self._plane_of_row: Any = None
        self._held_out: Any = ()  # not asked for yet

    @property
    def spatial_dims(self) -> int:
        """2 for planes, 3 for volumes."""
        return self.features.spatial_dims

    @property
    def fitted(self) -> bool:
        """Whether there is a forest to predict with."""
        return self.forest is not None

    # ------------------------------------------------------------------ learning

    def fit(self, images: Any, strokes: Any, *, keys: Sequence | None = None) -> "StrokeClassifier":
        """Learn from strokes on any planes of any of the images.

        Parameters
        ----------
        images : array or sequence of arrays
            Real numbers, (..., y, x) or (..., z, y, x), with channels along `channel_axis`.
        strokes : array or sequence of arrays of int
            Of the images' shapes without channels.
        keys : sequence, optional
            Of the planes in order, to remember their features by. Without keys nothing is kept.

        Returns
        -------
        StrokeClassifier
            Itself.

        Raises
        ------
        TypeError, ValueError
            If the strokes do not fit the images or do not hold two classes, in one sentence.
        """
        images, strokes = self._planes(images), as_list(strokes)
        check_strokes(strokes)
        strokes = [plane for one in strokes for plane in planes(one, self.spatial_dims)]
        if len(images) != len(strokes) or any(
            image.shape[-self.spatial_dims :] != stroke.shape
            for image, stroke in zip(images, strokes)
        ):
            raise ValueError("The strokes do not have the shape of the images.")
        rows, values, numbers = [], [], []
        for number, (image, stroke) in enumerate(zip(images, strokes)):
            stroke = np.asarray(stroke)
            if stroke.any():
                key = None if keys is None else keys[number]
                for found, labels in self._samples(key, image, stroke):
                    rows.append(found)
                    values.append(labels)
                    numbers.append(np.full(len(labels), number))
        return self.fit_rows(np.concatenate(rows), np.concatenate(values), np.concatenate(numbers))

    def fit_rows(
        self, rows: np.ndarray, values: np.ndarray, plane_numbers: np.ndarray | None = None
    ) -> "StrokeClassifier":
        """Learn from features of annotated pixels.

        Parameters
        ----------
        rows : array of float32, (pixels, features)
        values : array of int, (pixels,)
            Their strokes, from 1.
        plane_numbers : array of int, (pixels,), optional
            The planes that they lie on, for `held_out_probabilities`.
        """
        kept = _thinned(values, self.seed)
        self._rows = np.ascontiguousarray(rows[kept], np.float32)
        self._values = np.asarray(values)[kept].astype(np.uint8)
        self._plane_of_row = None if plane_numbers is None else plane_numbers[kept]
        self._held_out = ()
        classes = [int(value) for value in np.unique(self._values)]
        if classes != self.classes:
            self.classes, self.class_weights = classes, None
        self.num_classes = max(self.num_classes, *classes)
        forest = self._new_forest(len(self._values), oob_score=True)
        with warnings.catch_warnings():  # of pixels that every tree has learnt
            warnings.filterwarnings("ignore", "Some inputs do not have OOB scores")
            self.forest = forest.fit(self._rows, self._values)
        self.oob_error = _out_of_bag_error(self.forest, self._values)
        bright = self._rows[:, 0]
        low, top = (
            np.median(bright[self._values == c]) for c in (self.classes[0], self.classes[-1])
        )
        self.polarity = "bright" if top >= low else "dark"
        return self

    def _new_forest(self, pixels, **options):
        from sklearn.ensemble import RandomForestClassifier

        return RandomForestClassifier(
            self.trees,
            min_samples_leaf=5 if pixels >= 100 else 1,
            class_weight="balanced",
            random_state=self.seed % _SEEDS,
            **options,
        )

    def held_out_probabilities(self) -> tuple[np.ndarray, np.ndarray] | None:
        """What forests that learnt from other planes say of the annotated pixels; made once.

        Returns
        -------
        probabilities : array of float, (pixels,), [0, 1]
            Of the highest stroke value.
        values : array of uint8, (pixels,)
            The strokes.
            None if there are not two planes with strokes of all values on the others.
        """
        if self._held_out == ():
            self._held_out = self._hold_out()
        return self._held_out

    def _hold_out(self):
        from sklearn.model_selection import GroupKFold

        planes_of = self._plane_of_row
        count = 0 if planes_of is None else len(np.unique(planes_of))
        if count < 2:
            return None
        found, values = [], []
        folds = GroupKFold(min(count, _MOST_FOLDS)).split(self._rows, groups=planes_of)
        for learnt, held_out in folds:
            if set(self._values[learnt]) == set(self.classes):
                forest = self._new_forest(len(learnt)).fit(self._rows[learnt], self._values[learnt])
                found.append(forest.predict_proba(self._rows[held_out])[:, -1])
                values.append(self._values[held_out])
        if not found or set(np.concatenate(values)) != set(self.classes):
            return None
        return np.concatenate(found), np.concatenate(values)

    def _samples(self, key, image, stroke):
        """Features and strokes of a plane's annotated pixels, tile by tile."""
        moments = channel_moments(image, self.spatial_dims)
        for tile in tiles(stroke.shape, _TILE[self.spatial_dims]):
            part = stroke[tile]
            where = np.nonzero(part)
            if not len(where[0]):
                continue
            box, inside = tile, where
            if key is None or self.spatial_dims == 3:  # just around the strokes: cubes take long
                start = [int(index.min()) for index in where]
                box = tuple(
                    slice(whole.start + low, whole.start + int(index.max()) + 1)
                    for whole, low, index in zip(tile, start, where)
                )
                inside = tuple(index - low for index, low in zip(where, start))
            if key is None:  # nothing is kept
                found = self.features.compute(image, box, moments)
            else:
                found = self.cache.compute(key, image, box, moments)
            yield found[(slice(None), *inside)].T, part[where]

    # ------------------------------------------------------------------ prediction

    def predict(self, image: Any) -> np.ndarray:
        """Probabilities of every class.

        Parameters
        ----------
        image : array of real numbers, (..., y, x) or (..., z, y, x)
            With channels along `channel_axis`.

        Returns
        -------
        array of float32, (num_classes, *image.shape without channels)
            The class of stroke value v at index v - 1; a class without strokes has 0 everywhere.

        Raises
        ------
        RuntimeError
            If nothing has been learnt yet.
        """
        found = [self.predict_plane(plane) for plane in self._planes(image)]
        shape = without_channels(np.shape(image), self.channel_axis)
        return np.stack(found, axis=1).reshape(self.num_classes, *shape)

    def predict_plane(self, image: Any, *, key: Any = None) -> np.ndarray:
        """`predict` for one plane or volume, channels first; with a key its features are kept."""
        shape = image.shape[-self.spatial_dims :]
        found = np.empty((self.num_classes, *shape), np.float32)
        for box, part in self.predicting_plane(image, key=key):
            found[(slice(None), *box)] = part
        return found

    def predicting_plane(
        self,
        image: Any,
        *,
        key: Any = None,
        boxes: Any = None,
        step: int = 1,
        moments: Any = None,
    ) -> Iterator[tuple[tuple[slice, ...], np.ndarray]]:
        """Predict one plane or volume, channels first, tile by tile.

        Parameters
        ----------
        image : array, (y, x) or (z, y, x), or with a first axis for channels
        key : hashable, optional
            To remember the features by.
        boxes : sequence of tuple of slice, optional
            Tiles, as `tiles` makes them; by default all.
        step : int
            Along y and x only every so many pixels are decided, for a first look.
        moments : tuple of (mean, deviation), optional
            Those of the image are taken from it if they are not given; of a part of one they are
            those of the whole, and of a normalised one 0 and 1.

        Yields
        ------
        box, probabilities
            The tile and its float32 probabilities (num_classes, \\*tile), thinned by `step`.
        """
        self._check_fitted()
        shape = image.shape[-self.spatial_dims :]
        if moments is None:
            moments = channel_moments(image, self.spatial_dims)
        for box in boxes or tiles(shape, _TILE[self.spatial_dims]):
            if key is None:
                found = self.features.compute(image, box, moments)
            else:
                found = self.cache.compute(key, image, box, moments)
            yield box, self._decide(found[..., ::step, ::step])

    def predicting_rows(
        self, image: Any, classes: Sequence[int], write: Callable, **options: Any
    ) -> Iterator[tuple[int, int]]:
        """Predict one plane or volume, rows of tiles (in volumes: along z) one after the other.

        Parameters
        ----------
        image : array
            As for `predicting_plane`.
        classes : sequence of int
            Labels, which are the stroke values minus 1.
        write : callable
            ``write(start, rows)`` gets the probabilities, float32, in order, and the first of their
            rows: of two classes those of the second, of more all along a first axis.
        **options
            ``key, moments`` of `predicting_plane`.

        Yields
        ------
        tuple of (tiles done, tiles in all)
        """
        sides = image.shape[-self.spatial_dims :]
        boxes = tiles(sides, _TILE[self.spatial_dims])
        wanted: Any = classes[1] if len(classes) == 2 else list(classes)
        rows: Any = None
        predicted = self.predicting_plane(image, boxes=boxes, **options)
        for done, (box, found) in enumerate(predicted, start=1):
            if rows is None:
                rows = np.empty(
                    (*np.shape(wanted), box[0].stop - box[0].start, *sides[1:]), np.float32
                )
            rows[(..., slice(None), *box[1:])] = found[wanted]
            if done == len(boxes) or boxes[done][0] != box[0]:
                write(box[0].start, rows)
                rows = None
            yield done, len(boxes)

    def _decide(self, features):
        """Probabilities of features (features, \\*tile)."""
        rows = features.reshape(len(features), -1)
        found = np.zeros((self.num_classes, rows.shape[1]), np.float32)
        indices = [value - 1 for value in self.classes]
        for start in range(0, rows.shape[1], _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            found[indices, part] = self.forest.predict_proba(
                np.ascontiguousarray(rows[:, part].T)
            ).T
        return self._weighed(found).reshape(-1, *features.shape[1:])

    def weigh_classes(self, probabilities: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Weigh classes by how much of the images they take, from now on.

        Strokes do not tell it, so the forest takes all classes for equally frequent, and finds
        rare ones too often. Each is weighed by the root of its mean probability: halfway from
        even to that, as it is uncertain.

        Parameters
        ----------
        probabilities : sequence of arrays of float, (num_classes, \\*tile)
            What `predict` gave, for a fair sample of the images.

        Returns
        -------
        list of arrays of float32
            The same with the new weights.
        """
        balanced = list(probabilities)
        if self.class_weights is not None:
            balanced = [_scaled(p, 1 / self.class_weights) for p in balanced]
        pixels = sum(p[0].size for p in balanced)
        shares = sum(p.reshape(len(p), -1).sum(axis=1, dtype=np.float64) for p in balanced) / pixels
        self.class_weights = np.sqrt(np.maximum(shares, _LEAST_SHARE))
        return [self._weighed(p) for p in balanced]

    def _weighed(self, probabilities):
        if self.class_weights is None:
            return probabilities
        return _scaled(probabilities, self.class_weights)

    def _check_fitted(self):
        if not self.fitted:
            raise RuntimeError("The classifier is not trained yet; call fit with strokes.")

    def _planes(self, images):
        """Planes or volumes of one image or of a sequence, channels first."""
        has_channels = self.channel_axis is not None
        found = []
        for image in as_list(images):
            image = channels_first(image, self.channel_axis, self.spatial_dims)
            found += planes(image, self.spatial_dims + has_channels)
        return found

    # ------------------------------------------------------------------ files

    def state(self) -> tuple[dict, dict]:
        """What it takes to make the same classifier again, without images and without pickle.

        Returns
        -------
        settings : dict
            Values that JSON can hold.
        arrays : dict of {str: array}
            Features and strokes of the annotated pixels, which the forest is grown from again.
        """
        self._check_fitted()
        settings = {
            "format": _FORMAT,
            "format_version": _FORMAT_VERSION,
            "spatial_dims": self.spatial_dims,
            "channel_axis": self.channel_axis,
            "anisotropy": self.features.anisotropy,
            "sigmas": list(self.features.sigmas),
            "trees": self.trees,
            "seed": self.seed,
            "num_classes": self.num_classes,
            "class_weights": None if self.class_weights is None else self.class_weights.tolist(),
        }
        return settings, {"rows": self._rows, "values": self._values}

    @classmethod
    def from_state(cls, settings: dict, arrays: dict) -> "StrokeClassifier":
        """The classifier that `state` describes.

        Raises
        ------
        ValueError
            If that is not what was given, or comes from a later version.
        """
        if settings.get("format") != _FORMAT:
            raise ValueError("This is not a stroke classifier of napari-metastructure.")
        if settings["format_version"] > _FORMAT_VERSION:
            raise ValueError("The stroke classifier was saved by a later version; please upgrade.")
        names = ("spatial_dims", "channel_axis", "anisotropy", "sigmas", "trees", "seed")
        made = cls(**{name: settings[name] for name in names})
        made.num_classes = int(settings["num_classes"])
        made.fit_rows(np.asarray(arrays["rows"]), np.asarray(arrays["values"]))
        weights = settings.get("class_weights")
        made.class_weights = None if weights is None else np.asarray(weights)
        return made

    def save(self, path: str | Path) -> None:
        """Write the classifier to a ``.npz`` file, without pickle.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        settings, arrays = self.state()
        with open(path, "wb") as file:
            np.savez_compressed(file, settings=json.dumps(settings), **arrays)

    @classmethod
    def load(cls, path: str | Path) -> "StrokeClassifier":
        """Read a classifier that `save` wrote. Nothing in the file is executed.

        Raises
        ------
        OSError, ValueError
            If there is no such file, or it is something else.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in ("rows", "values")}
                settings = json.loads(str(file["settings"]))
        except (KeyError, ValueError, TypeError) as error:
            raise ValueError(f"{Path(path).name} is not a stroke classifier ({error}).") from None
        return cls.from_state(settings, arrays)


def _scaled(probabilities, weights):
    """Probabilities of classes, along the first axis, times weights, with a sum of 1 again."""
    weights = np.reshape(weights, (-1, *[1] * (probabilities.ndim - 1)))
    found = np.multiply(probabilities, weights, dtype=np.float32)
    found /= found.sum(axis=0)
    return found


def _thinned(values, seed):
    """Indices of pixels, of more than can be learnt from an even draw per class."""
    values = np.asarray(values)
    if len(values) <= _MOST_ROWS:
        return np.arange(len(values))
    rng, present = np.random.default_rng(seed), np.unique(values)
    most = _MOST_ROWS // len(present)
    kept = [rng.permutation(np.flatnonzero(values == value))[:most] for value in present]
    return np.sort(np.concatenate(kept))


def _out_of_bag_error(forest, truth):
    """Share of the pixels that are wrong; the classes count alike.

    Pixels that every tree has learnt do not count, although scikit-learn scores them, as wrong:
    as it draws them by their weights, they may be nearly all of a rare class.
    """
    votes = forest.oob_decision_function_
    scored = votes.any(axis=1)
    wrong = (forest.classes_[votes.argmax(axis=1)] != truth)[scored]
    of_classes = [wrong[truth[scored] == value] for value in forest.classes_]
    return float(np.mean([one.mean() for one in of_classes if len(one)] or [0.0]))
